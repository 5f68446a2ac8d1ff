#!/bin/sh
# Record what a phone says, so that edgeprof can be tested against it: see docs/android.md.
#
#   sh record_phone.sh adb MODEL.tflite BENCHMARK_MODEL [FOLDER]      from a computer; with two phones: ANDROID_SERIAL=...
#   sh record_phone.sh termux MODEL.tflite BENCHMARK_MODEL [FOLDER]   in Termux, on the phone itself
#
# BENCHMARK_MODEL is the program's path on the phone. FOLDER (default: phone-recording) is made and may be read before it
# is sent: it has no serial number, account, app, network or file of yours. Nothing on the phone is changed; with adb the
# model is put to /data/local/tmp for as long as this runs.
set -eu
[ $# -ge 3 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
way=$1 model=$2 program=$3 folder=${4:-phone-recording}
[ -f "$model" ] || { echo "there is no model $model" >&2; exit 1; }
[ ! -e "$folder" ] || { echo "$folder is there already: name another folder" >&2; exit 1; }

case $way in
adb)
    there() { adb shell -T "$1" </dev/null; }
    there true || { echo "adb reaches no phone: see what adb devices says" >&2; exit 1; }
    work=/data/local/tmp/edgeprof-recording
    there "rm -rf $work; mkdir $work"
    trap 'there "rm -rf $work"' EXIT
    adb push "$model" "$work/model.tflite" >/dev/null
    ;;
termux)
    there() { sh -c "$1" </dev/null; }
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cp "$model" "$work/model.tflite"
    ;;
*)
    echo "say adb or termux, not $way" >&2
    exit 2
    ;;
esac

mkdir -p "$folder/commands" "$folder/proc/self"
keep() { there "$2" >"$folder/$1" 2>/dev/null || rm -f "$folder/$1"; }

flags="--graph=$work/model.tflite --num_threads=1 --num_runs=20 --min_secs=0 --max_secs=30"
profiled="--enable_op_profiling=true --max_profiling_buffer_entries=65536"
there "$program $flags 2>&1" >"$folder/timings.txt" || echo "$program failed: see $folder/timings.txt" >&2
there "$program $flags $profiled 2>&1" >"$folder/operators.txt" || echo "no operators: see $folder/operators.txt" >&2
there "$program $flags $profiled --profiling_output_csv_file=$work/operators.csv" >/dev/null 2>&1 || :
keep operators.csv "cat $work/operators.csv"
keep program.sha256 "sha256sum $program | cut -c1-64"

keep commands/dumpsys-battery "dumpsys battery"
keep commands/dumpsys-power "dumpsys power | grep mWakefulness="
keep commands/dumpsys-trust "dumpsys trust | grep '(current)' | sed 's/\"[^\"]*\"//'"
keep commands/dumpsys-power-rails "dumpsys android.hardware.power.stats.IPowerStats/default delta"
keep commands/termux-battery-status "termux-battery-status"
keep commands/uname "uname -srm"
keep commands/getprop "for key in ro.product.manufacturer ro.product.model ro.build.version.release ro.board.platform; do
    echo \$key=\$(getprop \$key); done"
for file in cpuinfo loadavg meminfo stat self/cpuset; do
    keep "proc/$file" "grep -v Serial /proc/$file"
done
keep proc/self/status "grep -E '^(Cpus|Mems)_allowed' /proc/self/status"
# Which files of the kernel's may be read, and what the short ones say.
keep sys.txt "for file in /sys/class/power_supply/*/* /sys/class/thermal/thermal_zone*/type \
    /sys/class/thermal/thermal_zone*/temp /sys/devices/system/cpu/possible /sys/devices/system/cpu/present \
    /sys/devices/system/cpu/cpufreq/policy*/*; do case \$file in *serial*) continue;; esac
    [ -f \$file ] && echo \"\$file: \$(head -c 200 \$file 2>&1 | head -n 1)\"; done; true"
# A file that is empty says nothing.
find "$folder" -type f -empty -exec rm {} +
{
    echo "recorded by docs/examples/record_phone.sh by way of $way, $(date -u +%Y-%m-%d)"
    echo "model: $(sha256sum "$model" | cut -c1-64)"
} >"$folder/README"
echo "recorded in $folder: look through it, then send it (tar czf $folder.tar.gz $folder)"
