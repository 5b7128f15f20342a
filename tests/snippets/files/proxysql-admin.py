"""Runs statements for ProxySQL's admin interface against SQLite: python3 proxysql-admin.py TABLES STATEMENTS QUESTION

Prints what is wrong, each on a line with `wrong:`, then the rows of the question."""

import sqlite3
import sys

PARTS = ("MYSQL SERVERS", "MYSQL VARIABLES", "MYSQL USERS", "MYSQL QUERY RULES", "ADMIN VARIABLES")
COMMANDS = {f"{command};" for part in PARTS for command in (f"LOAD {part} TO RUNTIME", f"SAVE {part} TO DISK")}

tables, statements, question = sys.argv[1:]
database = sqlite3.connect(":memory:")
database.executescript(tables)
statement = ""
for line in statements.splitlines(keepends=True):
    statement += line
    if not sqlite3.complete_statement(statement):
        continue
    text, statement = statement.strip(), ""
    if text.startswith(("LOAD", "SAVE")):
        if text not in COMMANDS:
            print(f"wrong: no such command: {text}")
        continue
    try:
        changed = database.execute(text).rowcount
        if text.startswith("UPDATE") and changed != 1:
            print(f"wrong: {changed} rows changed: {text}")
    except sqlite3.Error as error:
        print(f"wrong: {error}: {text}")
if statement.strip():
    print(f"wrong: not ended: {statement.strip()}")
beyond = "SELECT b.variable_name, variable_value FROM bounds b JOIN global_variables g USING (variable_name) \
          WHERE NOT CAST(variable_value AS INT) BETWEEN least AND most OR CAST(CAST(variable_value AS INT) AS TEXT) <> variable_value"
for row in database.execute(beyond):
    print("wrong: beyond its bounds:", *row)
for row in database.execute(question):
    print(*row)
