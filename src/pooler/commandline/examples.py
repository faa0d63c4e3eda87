"""Examples of the command line, for `--help` and for the man page.

Each example is what follows the name of the command, and what it does.
"""

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("up", "start PgBouncer and PostgreSQL, or continue after an interruption"),
        ("relate shop", "give application shop a user and a database"),
        ("credentials shop", "show how shop connects"),
        ("config pool_mode=transaction", "set an option"),
        ("status", "show the state of every unit"),
        ("help relate", "show the arguments of a verb"),
    ),
    "up": (
        ("up", "start one unit and a PostgreSQL, or continue after an interruption"),
        ("up --units 2 pool_mode=transaction", "start two units, and set an option"),
        ("up --backend postgresql://postgres@db:5432", "use an existing PostgreSQL"),
        ("up --metrics", "run an exporter of Prometheus metrics beside each process"),
        ("up --tls client_tls_sslmode=require", "let clients in only with TLS"),
    ),
    "authority": (
        ("authority", "show the authority and the certificates of the units"),
        ("authority renew", "give every unit a new key and certificate"),
        ("authority rotate", "put a new authority in place of the authority"),
    ),
    "scale": (("scale 3", "run three units"),),
    "down": (("down", "stop all processes"),),
    "watch": (("watch", "start again what ends, until Ctrl-C"),),
    "service": (("service install", "start the units at boot"),),
    "relate": (
        ("relate shop", "give application shop a user, and database shop"),
        ("relate shop --database orders --roles createdb", "choose the database and its rights"),
    ),
    "credentials": (
        ("credentials shop", "show how application shop connects"),
        ("credentials shop --json", "print it as JSON, for a program"),
    ),
    "psql": (
        ("psql shop", "open psql as application shop"),
        ("psql shop -c 'SELECT 1'", "run a statement"),
    ),
    "exec": (
        (
            "exec shop -- python manage.py migrate",
            "run a command with the login of application shop",
        ),
    ),
    "unrelate": (("unrelate shop", "drop the user of application shop; its database stays"),),
    "config": (
        ("config", "show all options"),
        ("config pool_mode", "print the value of an option"),
        ("config pool_mode=transaction max_db_connections=50", "set two options"),
        ("config --reset pool_mode", "set an option to its default"),
        ("config --json", "print all options as JSON"),
    ),
    "restart": (
        ("restart", "replace the processes of all units, each in turn"),
        ("restart 0", "replace the processes of unit 0"),
    ),
    "rotate": (
        ("rotate shop", "give the application shop another user name and a new password"),
        ("rotate --valid-for 60", "end the former credentials of all applications after a minute"),
        ("rotate --own", "give the users of PgBouncer itself new passwords"),
    ),
    "pause": (
        ("pause", "let transactions end, for example before PostgreSQL restarts"),
        ("pause shop --timeout 30", "pause a database; give up after 30 s"),
    ),
    "resume": (("resume", "let the transactions that wait continue"),),
    "disable": (("disable shop", "let no client log in to the database shop"),),
    "enable": (("enable shop", "let clients log in to the database shop"),),
    "reconnect": (("reconnect", "use new server connections, e.g. after ALTER ROLE … SET"),),
    "kill": (
        ("kill --user relation_id_1", "disconnect the clients of a user"),
        ("kill --idle 3600", "disconnect clients that have been idle for an hour"),
    ),
    "status": (
        ("status", "show the units, their applications and what is wrong"),
        ("status --watch", "show it again every two seconds, until q is typed"),
        ("status --json", "print it as JSON, for a program"),
    ),
    "top": (
        ("top", "show which applications wait, until q is typed"),
        ("top --once --each", "show the pools of each process a single time"),
    ),
    "metrics": (
        ("metrics", "print the metrics of all processes in Prometheus' text format"),
        ("metrics | grep client_waiting", "show which pools have clients that wait"),
    ),
    "observe": (
        ("observe", "run Prometheus with the rules of `pooler`, until Ctrl-C"),
        ("observe --detach", "run Prometheus in the background"),
        ("observe --stop", "end Prometheus; its data stays"),
    ),
    "logs": (
        ("logs -n 100", "show the last 100 lines of all units"),
        ("logs --since 10m --grep shop", "show lines of the last ten minutes with `shop`"),
        ("logs 0 --follow", "follow the log of unit 0"),
    ),
    "doctor": (("doctor", "check this machine, PostgreSQL, the units and the applications"),),
    "report": (("report", "write what a bug report needs to a file"),),
    "help": (("help relate", "show the arguments of `relate`"),),
    "completion": (
        ("completion bash > ~/.local/share/bash-completion/completions/pooler", "for bash"),
        ("completion zsh > ~/.zfunc/_pooler", "for zsh, with `fpath+=~/.zfunc` in ~/.zshrc"),
        ("completion fish > ~/.config/fish/completions/pooler.fish", "for fish"),
    ),
    "man": (("man | man -l -", "read the man page"),),
}
