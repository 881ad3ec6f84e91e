"""A list that changes only with the configuration."""

from bes_api.discovery_config import StaticBackends
from bes_router.discovery.found import Found, Listed, Report, Tell


class StaticList:
    """Tells its list once."""

    name = "static"

    def __init__(self, config: StaticBackends) -> None:
        self._config = config
        self.report = Report()

    async def run(self, tell: Tell) -> None:
        """See `Discovery`."""
        tell(Found(tuple(Listed(backend) for backend in self._config.backends)))
