"""Say which pool it is that a measurement is of, in the attributes of OpenTelemetry's conventions."""

from __future__ import annotations

from pool_exporter.catalogue.vocabularies import POOL_ATTRIBUTE
from pool_exporter.exporters.families import as_text
from pool_exporter.records import PoolSnapshot

Attributes = dict[str, str | int]

_SYSTEMS = {
    "cockroachdb": "cockroachdb",
    "clickhouse": "clickhouse",
    "clickhousedb": "clickhouse",
    "db2": "ibm.db2",
    "firebird": "firebirdsql",
    "hana": "sap.hana",
    "hive": "hive",
    "mariadb": "mariadb",
    "mssql": "microsoft.sql_server",
    "mysql": "mysql",
    "oracle": "oracle.db",
    "postgresql": "postgresql",
    "redshift": "aws.redshift",
    "spanner": "gcp.spanner",
    "sqlite": "sqlite",
    "teradatasql": "teradata",
    "trino": "trino",
}
"""SQLAlchemy's names of dialects, and the conventions' values of `db.system.name`."""


def pool_attributes(snapshot: PoolSnapshot) -> Attributes:
    """Return the identity attributes of a pool: its name, and what is known of its database.

    Source: the semantic conventions for database client metrics. Several servers stay one address,
    joined by commas and without a port; the path of a Unix socket is an address too.
    """
    attributes: Attributes = {POOL_ATTRIBUTE: as_text(snapshot.name)}
    info = snapshot.info
    if dialect := info.get("dialect"):
        attributes["db.system.name"] = _SYSTEMS.get(dialect, "other_sql")
    if database := info.get("database"):
        attributes["db.namespace"] = as_text(database)
    if server := info.get("server"):
        address, port = split_server(server)
        attributes["server.address"] = as_text(address)
        if port is not None:
            attributes["server.port"] = port
    return attributes


def split_server(server: str) -> tuple[str, int | None]:
    """Return address and port of an info metric's `server`; no port where it has none or several."""
    if "," in server or server.startswith("/"):
        return server, None
    host, colon, port = server.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()):
        return server, None
    return host.removeprefix("[").removesuffix("]"), int(port)
