"""Reads the tables by DuckDB: all calls; or, with a file of queries, that these have answers."""

import os
import re
import sys

import duckdb
from calls import tell

database = duckdb.connect()
if len(sys.argv) > 2:
    # The document reads the directory `traces`.
    os.chdir(os.path.dirname(sys.argv[1]))
    if not os.path.exists("traces"):
        os.symlink(os.path.basename(sys.argv[1]), "traces")
    with open(sys.argv[2], encoding="utf-8") as file:
        queries = re.findall(r"```sql\n(.*?)```", file.read(), re.S)
    for query in queries:
        rows = database.sql(query)
        if not query.startswith("CREATE"):
            print(f"# rows {len(rows.fetchall())}")
    sys.exit()

table = f"read_parquet('{sys.argv[1]}/calls/**/*.parquet', hive_partitioning = true)"
for row in database.sql(
    f"SELECT tid, function, at_ns, at_ns + coalesce(duration_ns, 0), depth FROM {table}"
).fetchall():
    tell(*row)
for host, begin, end in database.sql(
    f"SELECT host, min(epoch(time)), max(epoch(time)) FROM {table} GROUP BY host"
).fetchall():
    print(f"# host {host}")
    print(f"# began {int(begin)}")
