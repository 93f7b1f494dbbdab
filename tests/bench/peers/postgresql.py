"""PostgreSQL 15: logical replication of one table; cascading physical standbys."""
import os
import time

from peers.common import (HOPS, UPDATES, Result, cpu_seconds, disk, latencies, listening, memory, paced, run, through)
from sites import wait_for

NAME, PACKAGES, DURABLE = "postgresql", ["postgresql-15", "python3-psycopg2"], "synchronous_commit and fsync on, at each hop"
BIN = "/usr/lib/postgresql/15/bin/"
USER = "postgres" if os.getuid() == 0 else None  # it does not run as root


def connect(port):
    import psycopg2
    c = psycopg2.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres")
    c.autocommit = True
    return c.cursor()


def one(cursor, sql, *args):
    cursor.execute(sql, args)
    row = cursor.fetchone()
    return row[0] if row else None


def escaped(text):
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


class Peer:
    def __init__(self, place, data):
        self.place, self.data, self.env = place, data, dict(os.environ, LC_ALL="C.UTF-8")

    def as_user(self, *args):
        return (["setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"] if USER else []) + list(args)

    def server(self, name, make):
        port, folder = self.place.ports.take(), self.place.folder(name, USER)
        make(folder)
        (folder / "postgresql.auto.conf").open("a").write(
            "port = %d\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nwal_level = logical\nfsync = on\n"
            "synchronous_commit = on\nmax_wal_size = 4GB\nwal_receiver_status_interval = 1s\n"
            # a subscription that was away for less than this waits for the rest of it
            "wal_retrieve_retry_interval = 100ms\n" % port)
        server = self.place.start(name, self.as_user(BIN + "postgres", "-D", folder), env=self.env)
        listening(port, server)
        wait_for(lambda: self.answers(port), 60, "%s answers" % name)
        return server, port, folder

    @staticmethod
    def answers(port):
        try:
            return one(connect(port), "SELECT 1")
        except Exception as error:  # starting up
            raise OSError(str(error)) from error

    def fresh(self, name):
        server = self.server(name, lambda folder: run(self.as_user(
            BIN + "initdb", "-D", folder, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"), env=self.env))
        connect(server[1]).execute("CREATE TABLE records (key text PRIMARY KEY, value text NOT NULL)")
        return server

    def primary(self, records):
        import io
        server, port, _ = self.fresh("primary")
        cursor = connect(port)
        cursor.copy_from(io.StringIO("".join("%s\t%s\n" % (escaped(k), escaped(v)) for k, v in records.items())), "records")
        cursor.execute("CREATE PUBLICATION p FOR TABLE records")
        cursor.execute("CHECKPOINT")
        listen, proxy = self.place.proxy(port)
        return server, cursor, listen, proxy

    def subscribe(self, primary, listen, proxy):
        """A fresh subscriber, until the first copy is done."""
        server, port, folder = self.fresh("subscriber")
        cursor = connect(port)
        before, cpu, start = through(proxy), cpu_seconds(primary, server), time.monotonic()
        cursor.execute("CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=%d user=postgres dbname=postgres' PUBLICATION p"
                       % listen)
        wait_for(lambda: one(cursor, "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate IN ('r', 's')") == 1, 60,
                 "the copy is done", interval=0.005)
        result = Result(time.monotonic() - start, wire=through(proxy) - before, cpu=cpu_seconds(primary, server) - cpu,
                        rss=memory(server), disk=disk(folder))
        return result, server, cursor, folder

    def bootstrap(self):
        primary, _, listen, proxy = self.primary(self.data.all)
        result, _, cursor, _ = self.subscribe(primary, listen, proxy)
        if one(cursor, "SELECT count(*) FROM records") != len(self.data.all):
            raise RuntimeError("records are missing")
        return result

    def catchup(self):
        primary, first, listen, proxy = self.primary(self.data.base)
        _, server, cursor, folder = self.subscribe(primary, listen, proxy)
        wait_for(lambda: one(cursor, "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate = 'r'") == 1, 60, "it follows")
        cursor.execute("ALTER SUBSCRIPTION s DISABLE")
        wait_for(lambda: one(first, "SELECT count(*) FROM pg_stat_replication") == 0, 30, "it has stopped")
        first.execute("BEGIN")
        for k in self.data.gone:
            first.execute("DELETE FROM records WHERE key = %s", (k,))
        for k, v in self.data.put.items():
            first.execute("INSERT INTO records VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (k, v))
        first.execute("INSERT INTO records VALUES ('zz-marker', '')")
        first.execute("COMMIT")
        before, cpu, start = through(proxy), cpu_seconds(primary, server), time.monotonic()
        cursor.execute("ALTER SUBSCRIPTION s ENABLE")
        wait_for(lambda: one(cursor, "SELECT 1 FROM records WHERE key = 'zz-marker'"), 60, "it has caught up", interval=0.002)
        return Result(time.monotonic() - start, wire=through(proxy) - before, cpu=cpu_seconds(primary, server) - cpu,
                      rss=memory(server), disk=disk(folder))

    def standby(self, i, above):
        def make(folder):
            run(self.as_user(BIN + "pg_basebackup", "-D", folder, "-h", "127.0.0.1", "-p", str(above), "-U", "postgres", "-R",
                             "-X", "stream", "-c", "fast", "--no-sync"), env=self.env)
        return self.server("hop%d" % i, make)

    def cascade(self):
        servers = [self.fresh("hop0")]
        first = connect(servers[0][1])
        for i in range(HOPS):
            servers.append(self.standby(i + 1, servers[-1][1]))
        leaf, arrived = connect(servers[-1][1]), {}

        def send(i):
            first.execute("INSERT INTO records VALUES (%s, %s)", ("u-%d" % i, "x" * 600))
            wait_for(lambda: one(leaf, "SELECT 1 FROM records WHERE key = %s", "u-%d" % i), 30, "it arrives", interval=0.0002)
            arrived[i] = time.monotonic()
        for i in range(1000, 1005):  # warms up
            send(i)
        p50, p99 = latencies(paced(UPDATES, send), arrived)
        return Result(p50=p50, p99=p99, cpu=cpu_seconds(*[s for s, _, _ in servers]), rss=memory(servers[-1][0]),
                      note="cascading standbys")

    def repair(self):
        """A script of one's own: hashes of 4,096 groups, then of the records in those that differ, then the records."""
        primary, _, listen, proxy = self.primary(self.data.all)
        _, server, cursor, folder = self.subscribe(primary, listen, proxy)
        for i, key in enumerate(self.data.wrong):
            cursor.execute("UPDATE records SET value = 'wrong' WHERE key = %s" if i % 2 else "DELETE FROM records WHERE key = %s",
                           (key,))
        above = connect(listen)
        before, cpu, start = through(proxy), cpu_seconds(primary, server), time.monotonic()
        groups = ("SELECT substr(md5(key), 1, 3), md5(string_agg(md5(value), '' ORDER BY key)) FROM records GROUP BY 1")
        single = "SELECT key, md5(value) FROM records WHERE substr(md5(key), 1, 3) IN %s"
        sets = []
        for c in above, cursor:
            c.execute(groups)
            sets.append(dict(c.fetchall()))
        differ = tuple(g for g in sets[0] if sets[0][g] != sets[1].get(g)) + tuple(g for g in sets[1] if g not in sets[0])
        rows = []
        for c in above, cursor:
            c.execute(single, (differ,))
            rows.append(dict(c.fetchall()))
        wanted = tuple(k for k, h in rows[0].items() if rows[1].get(k) != h)
        above.execute("SELECT key, value FROM records WHERE key IN %s", (wanted,))
        cursor.execute("BEGIN")
        for key, value in above.fetchall():
            cursor.execute("INSERT INTO records VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                           (key, value))
        cursor.execute("COMMIT")
        result = Result(time.monotonic() - start, wire=through(proxy) - before, cpu=cpu_seconds(primary, server) - cpu,
                        rss=memory(server), disk=disk(folder), note="unnoticed; by a script of one's own that compares")
        if len(wanted) != len(self.data.wrong):
            raise RuntimeError("%d of %d found" % (len(wanted), len(self.data.wrong)))
        return result

    def close(self):
        pass
