from .display import InShort as InShort
from .display import banner as banner
from .display import figure as figure
from .manifest import finish as finish
from .recording import record as record
