"""What the programs of the corpus work on: text, records, sources of C++ and Rust.

Made from a fixed seed and from text that comes with Python, so that two machines with the
same Python get the same.  Records are what a shop or a log would hold: names, words in the
frequencies of English, numbers that are mostly small, a few random identifiers.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from pydoc_data.topics import topics

PROGRAMS_DIR = Path(__file__).resolve().parent / "programs"

_SEED = 20261121
_FIRST = (
    "Anna", "Bao", "Carlos", "Dilek", "Emeka", "Fatima", "Greta", "Hiro", "Ines", "Jan", "Kofi",
    "Lena", "Marta", "Noor",
)  # fmt: skip
_LAST = (
    "Adler", "Bianchi", "Costa", "Diallo", "Eriksen", "Fischer", "Gupta", "Haddad", "Ito",
    "Jansen", "Kowalski",
)  # fmt: skip
_CITIES = (
    "Lisbon", "Osaka", "Accra", "Lima", "Turin", "Bergen", "Pune", "Leeds", "Quito", "Gdansk",
    "Izmir", "Austin",
)  # fmt: skip
_PATHS = (
    "/cart", "/search", "/login", "/item/{}", "/user/{}/orders", "/static/app.{}.js",
    "/api/v2/stock/{}",
)  # fmt: skip
_STATES = ("open", "paid", "packed", "shipped", "returned")
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def text() -> str:
    """Some 600 KB of English prose about Python."""
    return "\n".join(topics[name] for name in sorted(topics))


class Records:
    """Plausible things, one after the other; the same from one seed."""

    def __init__(self, seed: int = _SEED) -> None:
        self._random = random.Random(seed)
        self._words = re.findall(r"[A-Za-z]+", text())
        self._now = _BEGIN

    def sentence(self, words: int) -> str:
        """A stretch of the text, so that words follow each other as they do in it."""
        start = self._random.randrange(len(self._words) - words)
        return " ".join(self._words[start : start + words])

    def token(self) -> str:
        """16 random bytes, in hexadecimal: a session, a digest."""
        return self._random.randbytes(16).hex()

    def number(self) -> int:
        """From 1 up; small ones are the most frequent."""
        return int(self._random.paretovariate(0.7))

    def customer(self, key: int) -> dict[str, object]:
        """Somebody with an address."""
        pick = self._random.choice
        first, last = pick(_FIRST), pick(_LAST)
        return {
            "id": key,
            "name": f"{first} {last}",
            "email": f"{first}.{last}{self._random.randrange(999)}@example.org".lower(),
            "street": f"{self._random.randrange(1, 240)} {self.sentence(1).title()} Street",
            "city": pick(_CITIES),
            "balance": round(self._random.gauss(120, 80), 2),
            "active": self._random.random() < 0.8,
            "note": self.sentence(self._random.randrange(3, 20)),
        }

    def order(self, key: int, customers: int) -> dict[str, object]:
        """What somebody bought."""
        items = [
            {"sku": f"A-{self.number():06d}", "count": min(self.number(), 99), "price": cents / 100}
            for cents in self._random.choices(range(99, 20000, 50), k=min(self.number(), 6))
        ]
        return {
            "id": key,
            "customer": self._random.randrange(customers),
            "state": self._random.choice(_STATES),
            "at": self.moment(),
            "items": items,
            "remark": self.sentence(self._random.randrange(2, 9)),
        }

    def moment(self) -> str:
        """A time after the one before."""
        self._now += timedelta(milliseconds=self._random.expovariate(1 / 900))
        return self._now.isoformat(timespec="milliseconds")

    def log_line(self) -> str:
        """A line of an access log."""
        pick = self._random.choice
        path = pick(_PATHS).format(self.number())
        status = pick((200, 200, 200, 200, 304, 404, 500))
        return (
            f"{self.moment()} 10.{self.number() % 256}.{self.number() % 256}.7 "
            f'"GET {path}" {status} {self.number() * 37} {self.token()[:12]}'
        )


def json_lines(customers: int, orders: int) -> Iterator[str]:
    """Customers, then orders, one JSON object a line."""
    records = Records()
    for key in range(customers):
        yield json.dumps({"kind": "customer", **records.customer(key)})
    for key in range(orders):
        yield json.dumps({"kind": "order", **records.order(key, customers)})


def redis_commands(sessions: int) -> Iterator[list[str]]:
    """A web shop's cache: sessions, profiles, queues, rankings, counters."""
    records = Records()
    for key in range(sessions):
        session = {"user": key, "token": records.token(), "seen": records.moment()}
        yield ["SET", f"session:{records.token()}", json.dumps(session), "EX", "86400"]
        profile = records.customer(key)
        fields = [text for pair in profile.items() for text in map(str, pair)]
        yield ["HSET", f"user:{key}", *fields]
        yield ["ZADD", f"sold:{key % 40}", str(records.number()), f"A-{records.number():06d}"]
        yield ["RPUSH", f"log:{key % 300}", records.log_line()]
        yield ["INCRBY", f"hits:{records.number() % 5000}", "1"]
        if key % 8 == 0:
            yield ["SET", f"page:{key}", f"<html><p>{records.sentence(200)}</p></html>"]


def sql(customers: int, orders: int) -> Iterator[str]:
    """Statements that make and fill the tables of a shop, with the indexes it would have."""
    records = Records()
    yield "PRAGMA journal_mode=OFF; BEGIN;"
    yield "CREATE TABLE customer(id INTEGER PRIMARY KEY, name, email, city, balance REAL, note);"
    yield "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer INTEGER, state, at, remark);"
    yield "CREATE TABLE item(order_id INTEGER, sku, count INTEGER, price REAL);"
    yield "CREATE TABLE access(line);"
    for key in range(customers):
        row = records.customer(key)
        values = [row[name] for name in ("id", "name", "email", "city", "balance", "note")]
        yield f"INSERT INTO customer VALUES({_sql_values(values)});"
    for key in range(orders):
        order = records.order(key, customers)
        values = [order[name] for name in ("id", "customer", "state", "at", "remark")]
        yield f"INSERT INTO orders VALUES({_sql_values(values)});"
        items = order["items"]
        assert isinstance(items, list)
        for item in items:
            yield f"INSERT INTO item VALUES({_sql_values([key, *item.values()])});"
        yield f"INSERT INTO access VALUES({_sql_values([records.log_line()])});"
    yield "COMMIT;"
    yield "CREATE INDEX by_email ON customer(email); CREATE INDEX by_city ON customer(city, name);"
    yield "CREATE INDEX by_customer ON orders(customer, at); CREATE INDEX by_sku ON item(sku);"


def _sql_values(values: list[object]) -> str:
    return ",".join(
        "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)
        for value in values
    )


def source(name: str, times: int) -> Iterator[str]:
    """A file of `programs`, its part after ``// repeated`` for each number below ``times``."""
    head, _, part = (PROGRAMS_DIR / name).read_text().partition("// repeated\n")
    yield head
    for number in range(times):
        yield part.replace("NUMBER", str(number))
