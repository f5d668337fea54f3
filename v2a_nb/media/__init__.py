"""Reading and writing media files with PyAV: any container and codec that its FFmpeg reads; mp4, wav, flac are written.

| file | what it does |
|---|---|
| `video.py` | a video file: its pictures with their times, whole, in parts or in windows |
| `sounds.py` | the sound of a file |
| `frames.py` | decoded pictures in order, from any moment on |
| `decoding.py` | containers, streams, packets |
| `structure.py` | what a file's own structure says about pictures that are missing |
| `pictures.py` | a decoded frame as players show it |
| `finding.py` | the videos in a folder; what is no file |
| `growing.py` | a wav that can be played while it is made |
| `spooled.py` | a sound that is too long for memory, on disk |
| `soundtracks.py` | sounds of any length, block by block, on their way into a file |
| `writing.py`, `mp4.py` | sounds and videos into files |
| `remuxing.py` | a video with another sound; its pictures are copied where they can be |
| `output.py` | the files of a generated soundtrack |
"""

from v2a_nb.media.finding import check_file, find_videos
from v2a_nb.media.growing import growing_wav
from v2a_nb.media.output import Output
from v2a_nb.media.sounds import open_sound
from v2a_nb.media.spooled import SpooledSound
from v2a_nb.media.video import MediaInfo, Video, dub, info, open, windows
from v2a_nb.media.writing import save_mp4, save_sound, save_wav

__all__ = [
    "MediaInfo", "Output", "SpooledSound", "Video", "check_file", "dub", "find_videos", "growing_wav", "info", "open",
    "open_sound", "save_mp4", "save_sound", "save_wav", "windows",
]  # fmt: skip
