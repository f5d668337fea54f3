"""Reading and writing media files with PyAV: any container and codec that its FFmpeg reads; H.264 and AAC are written.

| file | what it does |
|---|---|
| `video.py` | a video file: its pictures with their times, whole, in parts or in windows |
| `sounds.py` | the sound of a file |
| `decoding.py` | containers, streams, packets |
| `pictures.py` | a decoded frame as players show it |
| `writing.py`, `mp4.py` | sounds and videos into files |
"""

from v2a_nb.media.sounds import open_sound
from v2a_nb.media.video import MediaInfo, Video, dub, info, open, windows
from v2a_nb.media.writing import save_mp4, save_wav

__all__ = ["MediaInfo", "Video", "dub", "info", "open", "open_sound", "save_mp4", "save_wav", "windows"]
