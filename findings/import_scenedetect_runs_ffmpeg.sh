#!/usr/bin/env bash
# import scenedetect runs a program.
#
# The guess: `import scenedetect` defines detectors, and nothing is run before a video is opened or split.
# What happens: `scenedetect/output/video.py` calls `get_ffmpeg_path()` while the package is imported, which runs
#   `ffmpeg -v quiet` to see whether there is one. So it is also with `from scenedetect.detectors import …`, because the
#   package's own __init__ is imported first. The child has the standard input of the process. ffmpeg sets a terminal
#   that it finds there to raw mode, and the system stops a process that does so in a background process group: workers
#   of Ray are in one, so they never return from the import. With input from a file nothing of this is seen.
# Versions: scenedetect-headless 0.7.2, Python 3.11.
# Seen: in curation on a terminal with ffmpeg on PATH, while no test had a terminal.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scenedetect-headless==0.7.2
mkdir "$folder/bin"
# Stands for ffmpeg: says how it was called, and what its standard input is.
printf '#!/bin/sh\necho "ffmpeg $* with standard input $(readlink /proc/$$/fd/0)" >>"%s/calls"\n' "$folder" >"$folder/bin/ffmpeg"
chmod +x "$folder/bin/ffmpeg"
touch "$folder/input"
"$folder/venv/bin/pip" list --format=freeze | grep -i scenedetect
PATH="$folder/bin:$PATH" "$folder/venv/bin/python" -c 'from scenedetect.detectors import AdaptiveDetector' <"$folder/input"
sed "s|$folder|FOLDER|" "$folder/calls"
grep -q "^ffmpeg -v quiet with standard input $folder/input\$" "$folder/calls"
