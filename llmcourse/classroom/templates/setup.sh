#!/usr/bin/env bash
set -e
apt-get update
apt-get install -y python3 python3-pip bubblewrap
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python 3.11 or newer is needed: choose the base image Ubuntu 24.04" >&2
    exit 1
fi
# The build without graphics cards, which is much smaller.
python3 -m pip install --break-system-packages {{ torch }} --index-url {{ index }}
python3 -m pip install --break-system-packages {{ others | join(" ") }}
