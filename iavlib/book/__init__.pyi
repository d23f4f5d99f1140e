from .display import InShort as InShort, banner as banner, figure as figure
from .manifest import finish as finish
from .recording import record as record
