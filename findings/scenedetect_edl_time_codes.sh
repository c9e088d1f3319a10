#!/usr/bin/env bash
# The EDL of PySceneDetect names other frames than its scenes begin at.
#
# The guess: `save-edl` (`write_scene_list_edl`) writes SMPTE time codes: at 25 fps frame 58 is 00:00:02:08, and at 29.97
#   fps, non-drop, frame 1800 is 00:01:00:00.
# What happens: the frames of a code are computed as int(seconds * rate % rate) in floating point. Where the product is
#   just below a whole number, the code is one frame early: about 1 frame of 17 at 25 fps, 1 of 50 at 30 fps, none at 24.
#   At 29.97 and 23.976 fps the seconds of a code are real seconds, while non-drop codes count 30 (24) frames as one
#   second: codes are ahead by 3.6 s after an hour. The header says "FCM: NON-DROP FRAME", so programs that edit shift the cuts.
#   The scene list in CSV has seconds and frame numbers that are right.
# Versions: scenedetect-headless 0.7.2, Python 3.11.
# Seen: when lists of shots were read back as clips, at 25, 30 and 29.97 fps.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scenedetect-headless==0.7.2
"$folder/venv/bin/python" - <<'PYTHON'
import io
from fractions import Fraction

from scenedetect.common import FrameTimecode
from scenedetect.output import write_scene_list_edl


def code_of(number, fps):
    """The EDL's start of a scene that begins at a frame."""
    text = io.StringIO()
    write_scene_list_edl(text, [(FrameTimecode(number, fps=fps), FrameTimecode(number + 10, fps=fps))])
    return text.getvalue().splitlines()[-1].split()[4]


def smpte(number, fps):
    seconds, frame = divmod(number, round(fps))
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{frame:02d}"


for fps in (Fraction(24), Fraction(25), Fraction(30), Fraction(30000, 1001)):
    wrong = [number for number in range(2000) if code_of(number, fps) != smpte(number, fps)]
    shown = [f"frame {n}: {code_of(n, fps)}, expected {smpte(n, fps)}" for n in wrong if n in (58, 246, 1800)]
    print(f"{float(fps):.3f} fps: {len(wrong)} of 2000 codes name another frame; {'; '.join(shown) or 'none'}")
assert code_of(58, Fraction(25)) == "00:00:02:07"
assert code_of(1800, Fraction(30000, 1001)) == "00:01:00:01"
PYTHON
