"""The description of this provider that Airflow reads."""


def get_provider_info() -> dict[str, object]:
    """Describe the provider to Airflow.

    Airflow calls this at the start of every command and lets an exception through, so it holds literals
    and imports nothing. Airflow 3.3 draws the connection form from `connection-types` alone.
    """
    asset_uris = [
        {
            "schemes": ["voiceos"],
            "handler": "voiceos_provider.assets.voiceos.sanitize_uri",
            "factory": "voiceos_provider.assets.voiceos.create_asset",
            "to_openlineage_converter": "voiceos_provider.assets.voiceos.convert_asset_to_openlineage",
        },
    ]
    return {
        "package-name": "airflow-provider-voiceos",
        "name": "VoiceOS",
        "description": "Export conversations from the VoiceOS voice-agent API to files, databases and XCom.\n",
        "integrations": [
            {
                "integration-name": "VoiceOS",
                "external-doc-url": "https://docs.voiceos.io",
                "tags": ["service"],
            },
            {
                "integration-name": "Object storage",
                "external-doc-url": "https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/objectstorage.html",
                "tags": ["protocol"],
            },
            {
                "integration-name": "Databases",
                "external-doc-url": "https://airflow.apache.org/docs/apache-airflow-providers-common-sql/stable/index.html",
                "tags": ["protocol"],
            },
            {
                "integration-name": "Iceberg",
                "external-doc-url": "https://iceberg.apache.org/",
                "tags": ["apache"],
            },
            {
                "integration-name": "Delta Lake",
                "external-doc-url": "https://delta.io/",
                "tags": ["software"],
            },
        ],
        "hooks": [
            {"integration-name": "VoiceOS", "python-modules": ["voiceos_provider.hooks.voiceos"]},
        ],
        "operators": [
            {
                "integration-name": "VoiceOS",
                "python-modules": [
                    "voiceos_provider.operators.voiceos",
                    "voiceos_provider.operators.voiceos_coverage",
                    "voiceos_provider.operators.voiceos_erasure",
                ],
            },
        ],
        "sensors": [
            {"integration-name": "VoiceOS", "python-modules": ["voiceos_provider.sensors.voiceos"]},
        ],
        "triggers": [
            {"integration-name": "VoiceOS", "python-modules": ["voiceos_provider.triggers.voiceos"]},
        ],
        "transfers": [
            {
                "source-integration-name": "VoiceOS",
                "target-integration-name": "Object storage",
                "python-module": "voiceos_provider.transfers.voiceos_to_object_storage",
            },
            {
                "source-integration-name": "VoiceOS",
                "target-integration-name": "Object storage",
                "python-module": "voiceos_provider.transfers.voiceos_recordings_to_object_storage",
            },
            {
                "source-integration-name": "VoiceOS",
                "target-integration-name": "Databases",
                "python-module": "voiceos_provider.transfers.voiceos_to_sql",
            },
            {
                "source-integration-name": "VoiceOS",
                "target-integration-name": "Iceberg",
                "python-module": "voiceos_provider.transfers.voiceos_to_iceberg",
            },
            {
                "source-integration-name": "VoiceOS",
                "target-integration-name": "Delta Lake",
                "python-module": "voiceos_provider.transfers.voiceos_to_delta_lake",
            },
        ],
        "extra-links": [
            "voiceos_provider.links.voiceos.VoiceOSFilesLink",
            "voiceos_provider.links.voiceos.VoiceOSManifestLink",
        ],
        "asset-uris": asset_uris,
        "dataset-uris": asset_uris,  # their name in Airflow 2
        "connection-types": [
            {
                "connection-type": "voiceos",
                "hook-class-name": "voiceos_provider.hooks.voiceos.VoiceOSHook",
                "hook-name": "VoiceOS",
                "ui-field-behaviour": {
                    # The port is only there because the connection test of Airflow 3.3.1 and 3.3.2 requires one.
                    "hidden-fields": ["login", "schema"],
                    "relabeling": {"host": "Base URL", "password": "API token"},
                    "placeholders": {
                        "host": "https://api.voiceos.io",
                        "password": "Your VoiceOS API token",
                        "port": "443",
                    },
                },
                "conn-fields": {
                    "page_size": {
                        "label": "Page size",
                        "description": "Conversations requested per page.",
                        "schema": {
                            "type": ["integer", "null"],
                            "minimum": 1,
                            "maximum": 1000,
                            "default": 100,
                        },
                    },
                    "requests_per_second": {
                        "label": "Requests per second",
                        "description": "Upper limit of the request rate; empty for no limit.",
                        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0},
                    },
                    "request_timeout": {
                        "label": "Request timeout",
                        "description": "Limit for one attempt of a request, in seconds.",
                        "schema": {"type": ["number", "null"], "minimum": 1, "default": 60},
                    },
                    "connect_timeout": {
                        "label": "Connect timeout",
                        "description": "Limit for opening a connection to the API, in seconds.",
                        "schema": {"type": ["number", "null"], "minimum": 1, "default": 10},
                    },
                    "max_attempts": {
                        "label": "Attempts per request",
                        "description": "Attempts of one request, including the first, before the task fails.",
                        "schema": {
                            "type": ["integer", "null"],
                            "minimum": 1,
                            "maximum": 20,
                            "default": 10,
                        },
                    },
                    "retry_deadline": {
                        "label": "Retry deadline",
                        "description": "Limit for all attempts of one request with the waits between them, in seconds.",
                        "schema": {"type": ["number", "null"], "minimum": 1, "default": 900},
                    },
                    "ca_bundle": {
                        "label": "CA bundle",
                        "description": "Path of a file with the CA certificates to trust, in place of the usual ones.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "phone_hash_key": {
                        "label": "Phone hash key",
                        "description": "Secret of at least 16 characters that hashes phone numbers.",
                        "schema": {"type": ["string", "null"], "format": "password"},
                    },
                    "allow_http": {
                        "label": "Allow plain HTTP",
                        "description": "Send the token unencrypted to a host that is not this machine.",
                        "schema": {"type": ["boolean", "null"], "default": False},
                    },
                    "allow_private_recordings": {
                        "label": "Allow private addresses of recordings",
                        "description": "Download recordings from loopback, private and link-local addresses, too.",
                        "schema": {"type": ["boolean", "null"], "default": False},
                    },
                },
            },
        ],
    }
