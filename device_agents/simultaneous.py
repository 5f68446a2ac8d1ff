"""Several inferences at once: every stream has a session and a thread of its own.

Threads are enough: runtimes let Python's lock go while they run.
"""

import gc
import threading
from typing import Callable, List, Sequence, Tuple


def timed_together(
    runs: Sequence[Callable[[], None]], now: Callable[[], float], min_runs: int, min_s: float, max_s: float
) -> Tuple[List[float], float]:
    """Every run of all streams in the order in which they ended, and the seconds from the first start to the last end.

    All streams start together, and go on until each has made `min_runs` and `min_s` are over, or until `max_s`: none
    stops early, so that the others never have the device to themselves.

    Raises:
        Exception: what a run raised, once every stream has ended.
    """
    watch = _Watch(len(runs), min_runs, min_s, max_s)
    streams = [_Stream(k, run, now, watch) for k, run in enumerate(runs)]
    threads = [threading.Thread(target=stream.work, name=f"stream {stream.number}") for stream in streams]
    gc.collect()
    gc.disable()  # a collection inside a run would be charged to the model
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.enable()
    if watch.errors:
        raise watch.errors[0]
    spans = sorted((span for stream in streams for span in stream.spans), key=lambda span: span[1])
    return [end - begin for begin, end in spans], spans[-1][1] - min(begin for begin, _ in spans)


class _Watch:
    """Says when all streams may stop. Python's own lock is enough: every field is only ever set."""

    def __init__(self, n_streams: int, min_runs: int, min_s: float, max_s: float) -> None:
        self.start = threading.Barrier(n_streams)
        self.errors: List[BaseException] = []
        self._has_enough = [False] * n_streams
        self._limits = (min_runs, min_s, max_s)
        self._is_over = False

    def goes_on(self, number: int, n_runs: int, elapsed_s: float) -> bool:
        min_runs, min_s, max_s = self._limits
        if n_runs >= min_runs and elapsed_s >= min_s:
            self._has_enough[number] = True
        if elapsed_s >= max_s or all(self._has_enough):
            self._is_over = True
        return not self._is_over

    def fail(self, error: BaseException) -> None:
        self.errors.append(error)
        self._is_over = True
        self.start.abort()


class _Stream:
    """One thread's runs, as pairs of begin and end."""

    def __init__(self, number: int, run: Callable[[], None], now: Callable[[], float], watch: _Watch) -> None:
        self.number = number
        self.spans: List[Tuple[float, float]] = []
        self._run, self._now, self._watch = run, now, watch

    def work(self) -> None:
        run, now, spans = self._run, self._now, self.spans
        try:
            self._watch.start.wait()
            start = now()
            while True:
                begin = now()
                run()
                end = now()
                spans.append((begin, end))
                if not self._watch.goes_on(self.number, len(spans), end - start):
                    return
        except threading.BrokenBarrierError:
            return  # another stream has failed before this one began
        except BaseException as error:  # raised again by the thread that waits for all
            self._watch.fail(error)
