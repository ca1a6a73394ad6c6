"""Why a target is in its state: one closed, stable list, used as a metric label.

Add where needed, never rename: dashboards, rules and people's scripts select on these.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """A stable code with the sentence shown beside it."""

    sentence: str

    def __new__(cls, value: str, sentence: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member

    # General.
    OK = "ok", "The answer was right and in time."
    NOT_YET = "not_yet", "No look has finished yet."
    STALE = "stale", "The last look is too old to say anything."
    SLOW = "slow", "The answer was right but slower than its threshold."
    TIMEOUT = "timeout", "No answer within the deadline; the message names the unfinished phase."
    AGENT = "agent", "The agent itself failed to look; this says nothing about the target."
    CONFIG = "config", "The check cannot run as it is configured."
    CONTRADICTION = "contradiction", "Two witnesses disagree about the same thing."
    ASLEEP = "asleep", "Stopped on purpose; probing would wake it."
    STARTING = "starting", "Started a moment ago and still within its grace."

    # The way there.
    DNS = "dns", "The name could not be resolved."
    CONNECTION_REFUSED = "connection_refused", "Nobody listens on this address."
    CONNECTION_RESET = "connection_reset", "The connection was reset in the middle."
    CONNECTION_CLOSED = "connection_closed", "The connection was closed before an answer."
    UNREACHABLE = "unreachable", "There is no route to this address."

    # TLS.
    TLS_UNTRUSTED = "tls_untrusted", "The certificate is signed by nobody we trust."
    TLS_EXPIRED = "tls_expired", "A certificate in the chain has expired."
    TLS_EXPIRING = "tls_expiring", "A certificate in the chain expires soon."
    TLS_NOT_YET_VALID = "tls_not_yet_valid", "A certificate in the chain is not valid yet."
    TLS_HOSTNAME = "tls_hostname", "The certificate is for another name."
    TLS_PROTOCOL = "tls_protocol", "No common TLS version or cipher, or the handshake broke."
    TLS_CLIENT_CERT = "tls_client_cert", "The server refused our client certificate or wants one."
    NOT_TLS = "not_tls", "The server does not speak TLS on this port."

    # HTTP.
    PROTOCOL = "protocol", "The answer is not valid in its protocol."
    HTTP_VERSION = "http_version", "The HTTP version is not one that is accepted here."
    STATUS = "status", "The status code is not an accepted one."
    REDIRECT_LIMIT = "redirect_limit", "Too many redirects."
    REDIRECT_INVALID = "redirect_invalid", "A redirect led nowhere allowed."
    INCOMPLETE_BODY = "incomplete_body", "The body ended early."
    DECODE = "decode", "The body's encoding is broken."
    BODY_TOO_LARGE = "body_too_large", "The answer is larger than its limit."
    BODY_MATCH = "body_match", "The body does not match its condition."
    HEADER_MATCH = "header_match", "A header does not match its condition."
    HEALTH_DOCUMENT = "health_document", "The health document says so, whatever the status code."

    # Plug-ins.
    EXEC = "exec", "The plug-in's exit code says so."

    # PostgreSQL (SQLSTATE, errno or protocol byte decides, never message text).
    PG_REFUSED = "pg.refused", "Nobody listens on the database's port: the process is not running."
    PG_DNS = "pg.dns", "The database's name cannot be resolved."
    PG_UNREACHABLE = "pg.unreachable", "There is no route to the database."
    PG_NO_BACKEND = "pg.no_backend", "The port accepts and closes: a proxy without a database behind it."
    PG_NOT_POSTGRES = "pg.not_postgres", "What listens there does not speak PostgreSQL."
    PG_ACCEPT_STALLED = "pg.accept_stalled", "New connections hang while held ones still answer."
    PG_FROZEN = "pg.frozen", "The server accepts but does not answer: it hangs."
    PG_SHUTTING_DOWN = "pg.shutting_down", "The server is shutting down."
    PG_STARTING = "pg.starting", "The server is starting up."
    PG_CRASH_RECOVERY = "pg.crash_recovery", "The server replays its log after a crash."
    PG_AUTH_FAILED = "pg.auth_failed", "The server is alive; the agent's credentials are rejected."
    PG_NOT_PERMITTED = "pg.not_permitted", "The server is alive; it does not let the agent in or look."
    PG_TLS_REQUIRED = "pg.tls_required", "The server demands TLS."
    PG_TLS_UNAVAILABLE = "pg.tls_unavailable", "TLS was asked for and the server has none."
    PG_TLS_VERIFY = "pg.tls_verify", "The server's certificate is not trusted."
    PG_DATABASE_MISSING = "pg.database_missing", "The database does not exist."
    PG_DATABASE_CLOSED = "pg.database_closed", "The database does not accept connections."
    PG_TOO_MANY_CONNECTIONS = "pg.too_many_connections", "Every connection slot is taken."
    PG_MONITOR_LIMIT = "pg.monitor_limit", "The agent's own connection limit is reached."
    PG_READ_ONLY = "pg.read_only", "The primary refuses writes."
    PG_WRONG_ROLE = "pg.wrong_role", "The server is not in the role it should have."
    PG_DISK_FULL = "pg.disk_full", "The server cannot write: no space left."
    PG_WRAPAROUND = "pg.wraparound", "Transaction ids are nearly used up or writes have stopped for it."
    PG_SYNCREP_STALLED = "pg.syncrep_stalled", "Commits wait for a synchronous standby that is not there."
    PG_SLOW = "pg.slow", "Connecting and asking takes longer than the threshold."
    PG_CONNECTIONS_HIGH = "pg.connections_high", "Most connection slots are taken."
    PG_LONG_TRANSACTION = "pg.long_transaction", "A transaction is open far too long."
    PG_IDLE_IN_TRANSACTION = "pg.idle_in_transaction", "A session sits idle inside a transaction."
    PG_LOCK_WAIT = "pg.lock_wait", "Sessions wait for a lock."
    PG_DEADLOCKS = "pg.deadlocks", "Deadlocks occur."
    PG_ROLLBACKS = "pg.rollbacks", "An unusual share of transactions rolls back."
    PG_REPLICATION_LAG = "pg.replication_lag", "A standby is behind."
    PG_REPLICA_MISSING = "pg.replica_missing", "Fewer standbys than expected."
    PG_REPLICA_DISCONNECTED = "pg.replica_disconnected", "This standby receives nothing from its primary."
    PG_SLOT = "pg.slot", "A replication slot is inactive or lost."
    PG_XMIN_HORIZON = "pg.xmin_horizon", "Something holds back vacuum."
    PG_ARCHIVER = "pg.archiver", "WAL archiving fails."
    PG_CHECKSUM = "pg.checksum", "Data checksum failures were counted."
    PG_CHECKPOINTS = "pg.checkpoints", "Too many checkpoints are forced."
    PG_SEQUENCE = "pg.sequence", "A sequence is nearly used up."
    PG_CACHE = "pg.cache", "The buffer cache misses unusually often."
    PG_STATEMENT_DRIFT = "pg.statement_drift", "A statement became much slower than it was."
    PG_RESTARTED = "pg.restarted", "The server restarted."
    PG_FAILOVER = "pg.failover", "The primary changed."
    PG_CANARY = "pg.canary", "The write canary failed."
    PG_PLAINTEXT = "pg.plaintext", "The session is not encrypted."

    # NATS and JetStream.
    NATS_REFUSED = "nats.refused", "Nobody listens on the broker's port: the process is not running."
    NATS_DNS = "nats.dns", "The broker's name cannot be resolved."
    NATS_UNREACHABLE = "nats.unreachable", "There is no route to the broker."
    NATS_FROZEN = "nats.frozen", "The broker accepts but does not answer: it hangs."
    NATS_NOT_NATS = "nats.not_nats", "What listens there does not speak NATS."
    NATS_NO_BACKEND = "nats.no_backend", "The port accepts and closes: a proxy without a broker behind it."
    NATS_AUTH_FAILED = "nats.auth_failed", "The broker is alive; the agent's credentials are rejected."
    NATS_NOT_PERMITTED = "nats.not_permitted", "The broker is alive; the agent may not look."
    NATS_MAX_CONNECTIONS = "nats.max_connections", "The broker accepts no further connection."
    NATS_CONNECTIONS_HIGH = "nats.connections_high", "Most of the broker's connections are taken."
    NATS_TLS_REQUIRED = "nats.tls_required", "The broker demands TLS."
    NATS_TLS_VERIFY = "nats.tls_verify", "The broker's certificate is not trusted."
    NATS_PLAINTEXT = "nats.plaintext", "TLS was asked for and the broker offers none."
    NATS_SLOW = "nats.slow", "The round trip takes longer than the threshold."
    NATS_NOT_READY = "nats.not_ready", "The broker says it is not ready."
    NATS_LAME_DUCK = "nats.lame_duck", "The broker is being shut down gracefully."
    NATS_SLOW_CONSUMER = "nats.slow_consumer", "The broker cuts consumers that are too slow."
    NATS_STALE_CONNECTIONS = "nats.stale_connections", "Connections go stale."
    NATS_MEMORY = "nats.memory", "The broker's memory is high."
    NATS_CPU = "nats.cpu", "The broker's CPU is high."
    NATS_CLUSTER_SIZE = "nats.cluster_size", "The cluster has fewer servers than expected."
    NATS_ISOLATION = "nats.isolation", "One developer's namespace can read another's messages."
    NATS_NO_RESPONDERS = "nats.no_responders", "Nobody answers this request subject."
    NATS_SERVICE = "nats.service", "A NATS micro service is missing or failing."
    NATS_RESTARTED = "nats.restarted", "The broker restarted or its configuration changed."
    NATS_MONITORING = "nats.monitoring", "The monitoring port does not answer, so less is known."
    JS_DISABLED = "js.disabled", "JetStream is switched off."
    JS_NOT_ENABLED_FOR_ACCOUNT = "js.not_enabled_for_account", "JetStream is not enabled for this account."
    JS_NO_QUORUM = "js.no_quorum", "JetStream has lost its quorum."
    JS_STREAM_NO_LEADER = "js.stream_no_leader", "A stream has no leader."
    JS_NO_STORAGE = "js.no_storage", "JetStream has no storage left."
    JS_RESOURCE_LIMIT = "js.resource_limit", "JetStream has reached its resource limit."
    JS_ACCOUNT_LIMIT = "js.account_limit", "The account's JetStream limit is reached."
    JS_STREAM_FULL = "js.stream_full", "A stream is full and refuses messages."
    JS_DISK_FULL = "js.disk_full", "JetStream cannot write: no space left."
    JS_STORAGE_HIGH = "js.storage_high", "JetStream storage is nearly used up."
    JS_CONSUMER_STALLED = "js.consumer_stalled", "A consumer makes no progress."
    JS_CONSUMER_LAG = "js.consumer_lag", "A consumer falls behind."
    JS_POISON_MESSAGES = "js.poison_messages", "Messages were delivered as often as allowed and never acked."
    JS_REDUNDANCY_LOST = "js.redundancy_lost", "One more failure stops writes."
    JS_PEER_LAG = "js.peer_lag", "A cluster peer is behind or not seen."
    JS_REPLICA_DIVERGENCE = "js.replica_divergence", "Replicas of a stream disagree."

    # Fly.io machines.
    FLY_NO_MACHINES = "fly.no_machines", "No machine is deployed."
    FLY_CRASHED = "fly.crashed", "The machine exited with an error."
    FLY_OOM = "fly.oom", "The machine was killed for memory."
    FLY_BELOW_MINIMUM = "fly.below_minimum", "Fewer machines run than the minimum."
    FLY_CRASH_LOOP = "fly.crash_loop", "The machine keeps crashing."
    FLY_STOPPED_REASON_UNKNOWN = "fly.stopped_reason_unknown", "Stopped, and why cannot be seen."
    FLY_CONTROL_PLANE = "fly.control_plane", "Neither the API nor the DNS of the platform answers."
    FLY_HOST = "fly.host", "The machine's host is unreachable or unknown."
    FLY_STUCK = "fly.stuck", "A machine is stuck between two states."
    FLY_CHECKS = "fly.checks", "The platform's own health checks fail."
    FLY_DEPLOYING = "fly.deploying", "A deploy is in progress."
    FLY_DRIFT = "fly.drift", "Machines of one app differ in image, size or region."

    # The host.
    HOST_CPU = "host.cpu", "The CPU is busy."
    HOST_CPU_THROTTLED = "host.cpu_throttled", "The CPU is throttled."
    HOST_PRESSURE = "host.pressure", "Tasks wait for CPU, memory or disk."
    HOST_LOAD = "host.load", "The load per CPU is high."
    HOST_MEMORY = "host.memory", "Little memory is left."
    HOST_OOM = "host.oom", "The kernel killed a process for memory."
    HOST_DISK = "host.disk", "Little disk space is left."
    HOST_INODES = "host.inodes", "Few inodes are left."
    HOST_READ_ONLY = "host.read_only", "The disk is read-only."
    HOST_FDS = "host.fds", "Few file descriptors are left."
    HOST_CLOCK = "host.clock", "The clock is wrong."
    HOST_LOOP_LAG = "host.loop_lag", "The agent's own event loop is late."

    # The network between things.
    NET_DNS_NXDOMAIN = "net.dns_nxdomain", "The name does not exist."
    NET_DNS_TIMEOUT = "net.dns_timeout", "The resolver does not answer."
    NET_DNS_STALE = "net.dns_stale", "DNS names a machine that is not started."
    NET_BLACKHOLE = "net.blackhole", "Packets vanish: no answer to a connect."
    NET_BIND_IPV4_ONLY = "net.bind_ipv4_only", "The app listens on IPv4 only; the private network is IPv6."
    NET_PARTITION_PARTIAL = "net.partition_partial", "Some machines cannot reach some others."
    NET_LOSS = "net.loss", "Packets or connects are lost."

    # Backups.
    BACKUP_MISSING = "backup.missing", "There is no backup."
    BACKUP_OLD = "backup.old", "The newest backup is too old."
    BACKUP_SIZE = "backup.size", "The newest backup's size is unlike its predecessors'."
    BACKUP_NEVER_RESTORED = "backup.never_restored", "No restore has been proved lately."
    BACKUP_RETENTION = "backup.retention", "Fewer backups are kept than required."
    BACKUP_UNENCRYPTED = "backup.unencrypted", "A backup is not encrypted."
