"""Client for the VoiceOS conversations API. Imports nothing of Airflow.

- `client`, `async_client`: one request or one listing, blocking or for asyncio
- `config`: base URL, token, limits
- `retry`: when to try again, and `Retry-After`
- `rate_limiter`: pace and pauses shared by the workers of one client
- `transport`, `deadline`: HTTP: proxy, TLS, errors of connections, wall-clock limit
- `requests`, `responses`: what is sent; status errors, charsets and complete bodies of what comes back
- `pages`, `paging`: conversations of one page; numbers of the pages to request
- `recordings`: download of audio from signed URLs; `public_addresses`, `audio_types`
- `http_logs`: log lines of the HTTP libraries that are dropped
- `models`, `values`: a conversation as documented, and its typed values
- `json_faults`: bodies that are not JSON, and characters that cannot be stored
"""

from voiceos_provider.client.async_client import AsyncVoiceOSClient
from voiceos_provider.client.client import VoiceOSClient
from voiceos_provider.client.config import BASE_URL, ClientConfig
from voiceos_provider.client.models import AgentConfig, Conversation, CostBreakdown, Message, PhoneCall
from voiceos_provider.client.pages import Page, RawPage, Rejected
from voiceos_provider.client.requests import STATUSES
from voiceos_provider.client.retry import Retry

__all__ = [
    "BASE_URL",
    "STATUSES",
    "AgentConfig",
    "AsyncVoiceOSClient",
    "ClientConfig",
    "Conversation",
    "CostBreakdown",
    "Message",
    "Page",
    "PhoneCall",
    "RawPage",
    "Rejected",
    "Retry",
    "VoiceOSClient",
]
