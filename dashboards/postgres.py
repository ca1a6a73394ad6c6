"""PostgreSQL: alive, room, waits, replication, housekeeping."""

from __future__ import annotations

from typing import Final

from dashboards.builder import Dashboard, Panel, Query
from dashboards.selectors import R, S, number, trend

_P: Final = "gaia_postgres"

DASHBOARD: Final = Dashboard(
    uid="gaia-postgres",
    title="Gaia PostgreSQL",
    description="Databases as the agent's PostgreSQL check sees them.",
    service_source=f"{_P}_connections_limit",
    panels=(
        number(
            "Answers",
            f"min(probe_success{{{S}}} * on (env, service, check, vantage) "
            f'gaia_target_info{{{S},kind="database"}})',
            "Bad: 0. The status page's card says why: refused, starting, no slots, not permitted.",
            red=1,
            low_is_bad=True,
        ),
        number(
            "Connections taken",
            f"max({_P}_connections{{{S}}} / {_P}_connections_limit{{{S}}})",
            "Bad: above 80 %. Look for idle sessions and a pool that is too large.",
            unit="percentunit",
            amber=0.8,
            red=0.9,
        ),
        number(
            "Sessions waiting for a lock",
            f"sum({_P}_lock_waiters{{{S}}})",
            "Bad: above 10. Find the session they wait for: pg_blocking_pids().",
            amber=1,
            red=10,
        ),
        number(
            "Furthest standby behind",
            f"max({_P}_standby_behind_bytes{{{S}}})",
            "Bad: growing. The standby is slow or gone; reading from it shows old data.",
            "No standby",
            unit="bytes",
            red=256 * 2**20,
        ),
        trend(
            "Sessions by state",
            f"sum by (service, state) ({_P}_sessions{{{S}}})",
            "{{service}} {{state}}",
            "Bad: many idle in transaction: an application forgets to commit.",
        ),
        Panel(
            title="Oldest",
            kind="timeseries",
            queries=(
                Query(
                    expr=f"max by (service) ({_P}_longest_query_seconds{{{S}}})", legend="{{service}} query"
                ),
                Query(
                    expr=f"max by (service) ({_P}_longest_transaction_seconds{{{S}}})",
                    legend="{{service}} transaction",
                ),
                Query(
                    expr=f"max by (service) ({_P}_lock_wait_seconds{{{S}}})", legend="{{service}} lock wait"
                ),
            ),
            description="Bad: minutes. A long transaction holds locks and keeps vacuum from its work.",
            empty="Not permitted to look (pg_monitor)",
            unit="s",
            amber=300,
        ),
        trend(
            "Transactions",
            f"sum by (service) (rate({_P}_commits_total{{{S}}}{R}) + rate({_P}_rollbacks_total{{{S}}}{R}))",
            "{{service}}",
            "Bad: a drop to 0 while the database is up.",
            unit="ops",
        ),
        trend(
            "Rolled back",
            f"sum by (service) (rate({_P}_rollbacks_total{{{S}}}{R})) / sum by (service) "
            f"(rate({_P}_commits_total{{{S}}}{R}) + rate({_P}_rollbacks_total{{{S}}}{R}))",
            "{{service}}",
            "Bad: above 5 %. Applications fail or conflict.",
            unit="percentunit",
            amber=0.05,
        ),
        trend(
            "Found in the buffer cache",
            f"sum by (service) (rate({_P}_blocks_hit_total{{{S}}}{R})) / sum by (service) "
            f"(rate({_P}_blocks_hit_total{{{S}}}{R}) + rate({_P}_blocks_read_total{{{S}}}{R}))",
            "{{service}}",
            "Bad: a fall. More is read than fits: too little memory, or a query without an index.",
            unit="percentunit",
        ),
        trend(
            "Deadlocks",
            f"sum by (service) (increase({_P}_deadlocks_total{{{S}}}{R}))",
            "{{service}}",
            "Bad: any. The server's log names both statements.",
            amber=1,
        ),
        trend(
            "Transaction ids used",
            f"max by (service) ({_P}_xid_used_ratio{{{S}}})",
            "{{service}}",
            "Bad: above 50 %. Vacuum does not keep up; at 100 % the database stops writing.",
            unit="percentunit",
            amber=0.5,
            red=0.8,
        ),
        trend(
            "Newest backup's age",
            'time() - max by (env, service) (gaia_backup_last_success_timestamp_seconds{env=~"$env"})',
            "{{env}} {{service}}",
            "Bad: above 26 hours. The nightly backup did not run or failed.",
            "No backups are watched",
            unit="s",
            red=26 * 3600,
        ),
    ),
)
