"""The protocol of the connections to MLflow's server, with the limits that the API's connections have.

Uvicorn imports it by name: `--http service.dashboard.protocol:protocol`.
"""

from functools import partial

from service.http.connections import Connections, raise_file_limit
from service.http.server import LimitedProtocol
from service.settings import Settings

raise_file_limit()
protocol = partial(LimitedProtocol, open_connections=Connections(Settings().max_connections))
