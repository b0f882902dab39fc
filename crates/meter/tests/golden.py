"""Prints `golden.txt`: the comparison of `golden.rs`, by decimal arithmetic of its own.

    python3 crates/meter/tests/golden.py > crates/meter/tests/golden.txt
"""

import datetime
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal

MICRO = Decimal(1_000_000)


def date(text):
    return datetime.date.fromisoformat(text)


PRICES = [  # since, in, cached, out
    (date("2026-01-01"), Decimal("3.00"), Decimal("0.30"), Decimal("15.00")),
    (date("2026-07-01"), Decimal("2.50"), Decimal("0.25"), Decimal("12.50")),
]
HARDWARE, LIFE, KWH = Decimal("1800.00"), round(5 * 365.25), Decimal("0.30")
SINCE, UNTIL = date("2026-02-01"), date("2026-07-03")
WATTS_IDLE, WATTS_BUSY = 40, 150
DAYS = [
    ("2026-01-31", 1, 1, 1, 1),
    ("2026-06-29", 4_000_000, 1_000_000, 500_000, 3600),
    ("2026-06-30", 1_234_567, 34_567, 89_012, 1234),
    ("2026-06-30", 765_433, 0, 10_988, 366),
    ("2026-07-01", 2_000_000, 34_567, 100_000, 1600),
    ("2026-07-03", 31_000_000, 0, 7_000_001, 86_000),
]


def whole(amount, rounding=ROUND_HALF_UP):
    return int((amount * MICRO).quantize(Decimal(1), rounding=rounding))


def written_off(n_days):
    return whole(HARDWARE * n_days / LIFE, ROUND_FLOOR)


rent_sum, own_sum, paid_sum = 0, 0, whole(HARDWARE)
day = SINCE
while day <= UNTIL:
    used = [row for row in DAYS if date(row[0]) == day]
    n_prompt, n_cached, n_answer, busy = (sum(row[i] for row in used) for i in range(1, 5))
    _, price_in, price_cached, price_out = [price for price in PRICES if price[0] <= day][-1]
    rent = (n_prompt - n_cached) * price_in + n_cached * price_cached + n_answer * price_out
    rent = whole(rent / 1_000_000)
    watt_hours = Decimal(WATTS_BUSY * busy + WATTS_IDLE * (86_400 - busy)) / 3600
    energy = whole(watt_hours / 1000 * KWH)
    n_days = (day - SINCE).days
    own = energy + written_off(n_days + 1) - written_off(n_days)
    rent_sum, own_sum, paid_sum = rent_sum + rent, own_sum + own, paid_sum + energy
    if day >= date("2026-06-28"):
        print(day, rent, energy, own, rent_sum, own_sum, paid_sum)
    day += datetime.timedelta(days=1)
