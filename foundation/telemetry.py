"""No library phones home: the switches of each, set before any of them is imported."""

import os

OFF = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
}


def switch_off_telemetry() -> None:
    """Set the switches for this process and its children."""
    os.environ.update(OFF)
