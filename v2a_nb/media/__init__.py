"""Reading and writing media files with PyAV: any container and codec that its FFmpeg reads; H.264 and AAC are written.

| file | what it does |
|---|---|
| `video.py` | a video file: its pictures with their times, whole, in parts or in windows |
| `sounds.py` | the sound of a file |
| `decoding.py` | containers, streams, packets |
| `pictures.py` | a decoded frame as players show it |
| `finding.py` | the videos in a folder; what is no file |
| `writing.py`, `mp4.py` | sounds and videos into files |
| `output.py` | the files of a generated soundtrack |
"""

from v2a_nb.media.finding import check_file, find_videos
from v2a_nb.media.output import Output
from v2a_nb.media.sounds import open_sound
from v2a_nb.media.video import MediaInfo, Video, dub, info, open, windows
from v2a_nb.media.writing import save_mp4, save_wav

__all__ = [
    "MediaInfo", "Output", "Video", "check_file", "dub", "find_videos", "info", "open", "open_sound", "save_mp4",
    "save_wav", "windows",
]  # fmt: skip
