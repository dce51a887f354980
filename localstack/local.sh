#!/usr/bin/env bash
# Runs LocalStack and the Bedrock simulator on loopback, without Docker.
#
#   localstack/local.sh start   install LocalStack where it is missing, start both,
#                               seed them, print the variables to export
#   localstack/local.sh stop    end both
#
# Everything stays below build/localstack: a Python environment, and for each
# port a folder with process ids, logs and LocalStack's data.
#
#   LOCALSTACK_PORT  4566  where LocalStack listens
#   BEDROCKSIM_PORT  4567  where the simulator listens
#   PYTHON                 a Python 3.13; found where it is not given
#
# Exit status 77: LocalStack cannot be had on this machine, and why.

set -euo pipefail
cd "$(dirname "$0")/.."

readonly version=4.14.0 # the last one that asks for no licence token
readonly unavailable=77
readonly build=$PWD/build/localstack
readonly venv=$build/python-$version
# shellcheck source=localstack/env.sh
. localstack/env.sh
readonly state=$build/${AWS_ENDPOINT_URL##*:}

cannot() {
	echo "LocalStack $version cannot be had here: $1" >&2
	exit $unavailable
}

# python finds an interpreter of the version that the pins were made for: with
# 3.11 LocalStack fails on its own syntax.
python() {
	local candidate
	for candidate in "${PYTHON:-}" python3.13 python3 "$(PYENV_VERSION=$(pyenv latest 3.13 2>/dev/null) pyenv which python3 2>/dev/null)"; do
		if [[ -n $candidate ]] && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null; then
			echo "$candidate"
			return
		fi
	done
	return 1
}

install() {
	[[ -e $venv/installed ]] && return
	local interpreter
	interpreter=$(python) || cannot "it needs Python 3.13 (set PYTHON)"
	echo "installing LocalStack $version into $venv: about a minute" >&2
	rm -rf "$venv"
	mkdir -p "$build"
	"$interpreter" -m venv "$venv" || cannot "no virtual environment"
	if ! "$venv/bin/pip" install --quiet --disable-pip-version-check --constraint localstack/constraints.txt \
		"localstack-core[runtime]==$version" >"$build/install.log" 2>&1; then
		# An index that is away is the machine's affair; all else is ours.
		if grep -qE 'No matching distribution|OSError' "$build/install.log"; then
			cannot "$(tail -n 1 "$build/install.log")"
		fi
		cat "$build/install.log" >&2
		exit 1
	fi
	touch "$venv/installed"
	echo "installed in $SECONDS s" >&2
}

# running says whether the process that a file names is still the program.
running() { # NAME PROGRAM
	[[ -s $state/$1.pid ]] && ps -o args= -p "$(<"$state/$1.pid")" 2>/dev/null | grep -qF -- "$2"
}

# launch starts a program unless it runs.
launch() { # NAME PROGRAM [ARGUMENT...]
	local name=$1
	shift
	running "$name" "$*" && return
	nohup "$@" </dev/null >"$state/$name.log" 2>&1 &
	echo $! >"$state/$name.pid"
}

# terminate ends a program, and waits until it has.
terminate() { # NAME
	local pid patience=100 # tenths of a second
	running "$1" "$build" || { rm -f "$state/$1.pid"; return 0; }
	pid=$(<"$state/$1.pid")
	kill "$pid" 2>/dev/null || true
	while kill -0 "$pid" 2>/dev/null; do
		((patience-- > 0)) || { kill -KILL "$pid" 2>/dev/null || true; break; }
		sleep 0.1
	done
	rm -f "$state/$1.pid"
}

start() {
	install
	mkdir -p "$state/tmp"
	go build -o "$state/bedrocksim" ./localstack/bedrocksim
	launch bedrocksim "$state/bedrocksim" -addr "${AWS_ENDPOINT_URL_BEDROCK_RUNTIME#http://}"
	# LocalStack keeps its data below the folder for temporary files: one each.
	TMPDIR=$state/tmp GATEWAY_LISTEN=${AWS_ENDPOINT_URL#http://} \
		SERVICES=sqs,s3,cloudwatch,cloudformation,iam,sts EAGER_SERVICE_LOADING=1 \
		SKIP_SSL_CERT_DOWNLOAD=1 DISABLE_EVENTS=1 SQS_CLOUDWATCH_METRICS_REPORT_INTERVAL=10 \
		launch localstack "$venv/bin/python" -m localstack.runtime.main
	if ! PATH=$venv/bin:$PATH localstack/seed.sh >&2 || ! running localstack "$venv" || ! running bedrocksim "$state"; then
		tail -n 20 "$state"/*.log >&2
		stop
		exit 1
	fi
	grep -E '^(unset|export) ' localstack/env.sh | while read -r line; do eval "echo \"${line%% #*}\""; done
}

stop() {
	terminate localstack
	terminate bedrocksim
}

case ${1:-} in
start | stop) "$1" ;;
*)
	sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2
	exit 2
	;;
esac
