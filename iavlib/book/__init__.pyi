from .display import InShort as InShort, banner as banner, figure as figure
from .manifest import finish as finish
from .recording import keep as keep, record as record
from .stored import StoredTables as StoredTables, stored_tables as stored_tables
from .viewer import outlines as outlines
