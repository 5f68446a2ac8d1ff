"""Entry point of the packed agent; the version check must be readable by Pythons that are too old for the rest."""

import sys

if sys.version_info < (3, 9):  # noqa: UP036
    sys.stderr.write("edgeprof's agent needs Python 3.9 or newer, this is %d.%d\n" % sys.version_info[:2])  # noqa: UP031
    sys.exit(9)

if len(sys.argv) > 1 and sys.argv[1] == "worker":
    from device_agents.worker import main
elif len(sys.argv) > 1 and sys.argv[1] == "keep":
    from device_agents.keeper import main
elif len(sys.argv) > 1 and sys.argv[1] == "guard":
    from device_agents.clock_guard import main
else:
    from device_agents.serve import main

sys.exit(main())
