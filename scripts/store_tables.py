"""The tables that scripts/compare_stores.py prints."""

from statistics import median

REFRESHES = (
    *("store", "refreshes/s", "best (connections)", "CPU s a million", "B a user"),
    *("pull p99 ms", "flush s", "cores", "kept: stopped", "killed"),
)
EXPIRY = ("store", "still online", "left a minute later", "CPU s a million")


def show(results, reasons, users, rounds):
    print(f"\n{users:,} users, medians of {rounds} rounds in turn\n")
    table([REFRESHES, *(refreshes(name, found, users) for name, found in results.items())])
    print("\nUsers who are no longer refreshed, a second after their time:\n")
    table([EXPIRY, *(expired(name, found, users) for name, found in results.items())])
    print()
    for name, found in results.items():
        print(*notes(name, found, users), sep="\n")
    for name, reason in reasons.items():
        print(f"skipped: {name}: {reason}")


def of(found, *path):
    """The median of a number of all rounds."""
    values = []
    for value in found["rounds"]:
        for key in path:
            value = value[key]
        values.append(value)
    return median(values)


def of_refresh(found, connections, what):
    return median(what(one["refresh"][connections]) for one in found["rounds"])


def rate(refresh):
    return refresh["written"] / refresh["seconds"]


def cost(refresh):
    return 1e6 * refresh["server_cpu"] / refresh["written"]


def refreshes(name, found, users):
    counts = found["rounds"][0]["refresh"]
    best = max(counts, key=lambda connections: of_refresh(found, connections, rate))
    memory = median(one["count"]["memory"] - one["fill"]["memory_before"] for one in found["rounds"])
    restart = found["restart"]
    return (
        name,
        f"{of_refresh(found, 1, rate):,.0f}",
        f"{of_refresh(found, best, rate):,.0f} ({best})",
        f"{of_refresh(found, best, cost):.2f}",
        f"{memory / users:,.0f}",
        f"{of(found, 'steady', 'p99_ms'):.2f}",
        f"{of(found, 'steady', 'longest_flush'):.2f}",
        cores(found),
        *(f"{restart[how] / restart['users']:.0%}" for how in ["stop", "kill"]),
    )


def cores(found):
    used = f"{of(found, 'steady', 'server_cpu') / of(found, 'steady', 'seconds'):.3f}"
    share = of(found, "steady", "written") / of(found, "steady", "due")
    return used if share == 1 else f"{used}, too slow: {share:.0%} written"


def expired(name, found, users):
    expiry = found["expiry"]
    cpu = expiry["after"]["server_cpu"] - expiry["before"]["server_cpu"]
    return (
        name,
        f"{expiry['sample']['found']:,} of {expiry['sample']['asked']:,}",
        f"{expiry['after']['items']:,}",
        f"{1e6 * cpu / users:.2f}",
    )


def notes(name, found, users):
    """What does not fit into a table."""
    lines = []
    online = of(found, "count", "found")
    if online < users:
        lines.append(f"{name}: after the steady load only {online:,.0f} users were online")
    if "noreply" in found["rounds"][0]:
        runs = [one["noreply"] for one in found["rounds"]]
        lines.append(f"{name} with noreply, one connection: {median(map(rate, runs)):,.0f} refreshes/s, "
                     f"{median(map(cost, runs)):.2f} s of CPU a million")
    if clean := found["expiry"]["clean"]:
        times = {what: f"{clean[f'{what}_seconds']:.2f} s ({clean[f'{what}_cpu']:.2f} s of CPU)" for what in ["delete", "vacuum"]}
        lines.append(f"{name}: DELETE of {clean['rows']:,} expired rows took {times['delete']}, and VACUUM {times['vacuum']}")
        size, hot = of(found, "count", "relation_bytes") / users, of(found, "count", "hot_share")
        lines.append(f"{name}: table and index take {size:.0f} B a user on disk, and {hot:.1%} of the updates stayed in their page")
    busy = max(one["client_cpu"] / one["seconds"] for round_ in found["rounds"] for one in round_["refresh"].values())
    lines.append(f"{name}: the client's core was busy for at most {busy:.0%} of the time; connections that wrote the "
                 f"steady load: {of(found, 'steady_connections'):.0f}")
    return lines


def table(lines):
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for index, line in enumerate(lines):
        cells = [line[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
        print("| " + " | ".join(cells) + " |")
        if index == 0:
            print("| " + " | ".join(["-" * widths[0]] + ["-" * (width - 1) + ":" for width in widths[1:]]) + " |")
