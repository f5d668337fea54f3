"""The public names for type checkers and editors, which the lazy ``__init__.py`` hides; a test compares the two."""

from v2a_nb.clip import Clip as Clip
from v2a_nb.clip import Sound as Sound
from v2a_nb.doctor import check_environment as check_environment
from v2a_nb.errors import V2AError as V2AError
from v2a_nb.hits import Hits as Hits
from v2a_nb.media import open as open
from v2a_nb.media import open_sound as open_sound
from v2a_nb.media import save_mp4 as save_mp4
from v2a_nb.media import save_wav as save_wav
from v2a_nb.metrics.evaluate import evaluate as evaluate
from v2a_nb.metrics.vaas.metric import Vaas as Vaas
from v2a_nb.saliency import saliency as saliency
from v2a_nb.saliency.result import Saliency as Saliency
from v2a_nb.systems.registry import load as load
from v2a_nb.training.registry import train as train
from v2a_nb.widgets.browser import browse as browse
from v2a_nb.widgets.edit_hits import edit_hits as edit_hits
from v2a_nb.widgets.explore_ambience import explore_ambience as explore_ambience
from v2a_nb.widgets.explore_codec import explore_codec as explore_codec
from v2a_nb.widgets.explore_guidance import explore_guidance as explore_guidance
from v2a_nb.widgets.explore_hiding import explore_hiding as explore_hiding
from v2a_nb.widgets.explore_saliency import explore_saliency as explore_saliency
from v2a_nb.widgets.explore_spectrogram import explore_spectrogram as explore_spectrogram
from v2a_nb.widgets.listening import listening_test as listening_test
from v2a_nb.widgets.monitor import monitor as monitor
from v2a_nb.widgets.player import compare as compare
from v2a_nb.widgets.player import play as play
from v2a_nb.widgets.upload import your_video as your_video
from v2a_nb.world import strike_world as strike_world

__all__: list[str]
__version__: str
