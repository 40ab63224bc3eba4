"""What `scripts/million.py` prints: tables in Markdown."""

import re


def show_limits(plan, flags):
    """The limits of the machine, and which one binds."""
    table([("limit", "value", "sessions")], [
        (limit.name, limit.value, "no limit" if limit.sessions == float("inf") else f"{int(limit.sessions):,}")
        for limit in plan.limits
    ])
    print(f"\n{plan.sessions:,} sessions in {edges(plan.edges)}: with this limit of open files "
          f"an edge takes {plan.per_edge:,}.")
    if plan.sessions < flags.sessions:
        print(f"{flags.sessions:,} were asked for. What binds is: {plan.binding}.")
    print(flush=True)


def show_cores(plan, sessions, busy, most):
    """How many sessions the cores hold, by what those of the first edges take."""
    print(f"The first {sessions:,} of them take {busy:.2f} cores, load and memcached included, so the cores hold {most:,}.")
    if plan.binding == "cores":
        print(f"So there are {plan.sessions:,} sessions in {edges(plan.edges)}. What binds is: cores.")
    print(flush=True)


def show_costs(result):
    """What so many sessions take."""
    cores = result["cores"]
    mib = 1 << 20
    table([(f"{result['sessions']:,} sessions in {edges(result['edges'])}", "")], [
        ("sessions open at the end", f"{result['open']:,}"),
        ("connected in", f"{result['connected_s']:.0f} s, {result['connected_per_second']:,.0f} a second"),
        ("heartbeats (pings answered) a second", f"{result['heartbeats_per_second']:,.0f}"),
        ("`set`s flushed a second", f"{result['flushed_per_second']:,.0f}"),
        ("cores: all edges", f"{cores['edges']:.2f}"),
        ("cores: memcached", f"{cores['memcached']:.2f}"),
        ("cores: load generators", f"{cores['load']:.2f}"),
        ("process memory a session (PSS)", f"{result['edge_bytes_per_session']:.0f} B"),
        ("process memory of all edges (PSS)", f"{result['edges_pss_bytes'] / mib:,.0f} MiB"),
        ("kernel memory a session, both ends", f"{result['kernel_bytes_per_session']:,.0f} B"),
        ("kernel memory, both ends", f"{result['kernel_bytes_per_session'] * result['sessions'] / (1 << 30):.1f} GiB"),
        ("process memory of memcached (PSS)", f"{result['memcached_pss_bytes'] / mib:,.0f} MiB"),
        ("missed pongs", f"{result['missed_pongs']:,}"),
        ("sessions that ended", f"{result['sessions_lost']:,}"),
        ("keys in memcached; users without one", f"{result['keys']:,}; {result['keys_missing']:,}"),
        ("a shard's flush, p99", under(result["flush_p99_s"])),
        ("a ping and its pong, p99", under(result["ping_rtt_p99_s"])),
        ("users asked for; called offline", f"{asked(result['observer']):,}; {result['observer']['false_offline']:,}"),
    ])
    print(f"\nMeasured for {result['measured_s']:.0f} s.\n", flush=True)


def show_faults(result):
    """What the observer was told during each fault."""
    titles = ("fault", "99 % back after", "all back after", "watched for", "users asked for", "online", "unknown",
              "offline though live", "offline, away too long", "failed pulls")
    table([titles], [
        (row["fault"], f"{row['nearly_back_s']:.1f} s", f"{row['back_s']:.1f} s", f"{row['watched_s']:.0f} s",
         f"{asked(row):,}", f"{row['online']:,}", f"{row['unknown']:,}", f"{row['false_offline']:,}",
         f"{row['away_offline']:,}", f"{row['errors']:,}")
        for row in result["faults"]
    ])
    print(f"\nmemcached: {result['memcached_core']}.")
    print(f"The observer sees what is wrong: {result['false_offline_when_taken_away']:,} answers called users offline "
          "whose entries had been deleted to try it.", flush=True)


def edges(number):
    return f"{number} edge" if number == 1 else f"{number} edges"


def asked(counts):
    return sum(counts[kind] for kind in ("online", "unknown", "false_offline", "away_offline"))


def under(seconds):
    """A bound of a histogram's bucket."""
    if seconds is None:
        return "none"
    return f"under {seconds * 1000:g} ms" if seconds != float("inf") else "above all buckets"


def quantile(metrics, name, share):
    """The upper bound of the bucket that has the quantile; None if there was nothing."""
    buckets = []
    for series, count in metrics.items():
        if found := re.fullmatch(rf'{name}_bucket{{le="(.+)"}}', series):
            buckets.append((float(found[1].replace("+Inf", "inf")), count))
    buckets.sort()
    if not buckets or not buckets[-1][1]:
        return None
    return next(bound for bound, count in buckets if count >= share * buckets[-1][1])


def table(titles, rows):
    """Prints a table; all columns but the first are aligned to the right."""
    lines = [*titles, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles[0]))]
    for index, line in enumerate(lines):
        cells = [line[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
        print("| " + " | ".join(cells) + " |")
        if index == 0:
            print("| " + " | ".join(["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]) + " |")
