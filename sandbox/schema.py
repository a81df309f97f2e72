"""The tables of sandbox.db, in which every system but the shop keeps its books."""

SANDBOX_SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    system TEXT NOT NULL, key TEXT NOT NULL, digest TEXT NOT NULL,
    status INTEGER NOT NULL, body BLOB NOT NULL, created_ms INTEGER NOT NULL,
    PRIMARY KEY (system, key)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS arrivals (
    system TEXT NOT NULL, key TEXT NOT NULL, sends INTEGER NOT NULL,
    PRIMARY KEY (system, key)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS effects (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    system TEXT NOT NULL, kind TEXT NOT NULL, key TEXT, refund_id TEXT,
    at_ms INTEGER NOT NULL, request TEXT NOT NULL, response_id TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS effects_refund ON effects (refund_id);

CREATE TABLE IF NOT EXISTS charges (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    charge_id TEXT NOT NULL UNIQUE, payment_intent TEXT NOT NULL UNIQUE,
    order_id TEXT NOT NULL, customer_id TEXT NOT NULL, payment_method_id TEXT NOT NULL,
    currency TEXT NOT NULL, captured_minor INTEGER NOT NULL,
    refunded_minor INTEGER NOT NULL DEFAULT 0, created_ms INTEGER NOT NULL,
    CHECK (refunded_minor BETWEEN 0 AND captured_minor)
);
CREATE INDEX IF NOT EXISTS charges_order ON charges (order_id);
CREATE INDEX IF NOT EXISTS charges_customer ON charges (customer_id);

CREATE TABLE IF NOT EXISTS disputes (
    charge_id TEXT PRIMARY KEY, opened_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE VIEW IF NOT EXISTS charges_shown AS
    SELECT charges.*, EXISTS (
        SELECT 1 FROM disputes WHERE disputes.charge_id = charges.charge_id
    ) AS disputed FROM charges;
CREATE TABLE IF NOT EXISTS disputes_ended (
    charge_id TEXT PRIMARY KEY, status TEXT NOT NULL
) WITHOUT ROWID;
CREATE VIEW IF NOT EXISTS disputes_shown AS
    SELECT charges.number, charges.charge_id, charges.payment_intent,
        disputes.opened_ms AS created_ms,
        coalesce(disputes_ended.status, 'needs_response') AS status
    FROM disputes JOIN charges USING (charge_id) LEFT JOIN disputes_ended USING (charge_id);

CREATE TABLE IF NOT EXISTS refunds (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    charge_id TEXT NOT NULL REFERENCES charges (charge_id), payment_intent TEXT NOT NULL,
    amount_minor INTEGER NOT NULL, currency TEXT NOT NULL, reason TEXT,
    status TEXT NOT NULL, failure_reason TEXT, metadata TEXT NOT NULL,
    created_ms INTEGER NOT NULL, past_payment TEXT UNIQUE,
    settle_at_ms INTEGER, settle_as TEXT, settle_failure_reason TEXT
);
CREATE INDEX IF NOT EXISTS refunds_charge ON refunds (charge_id);
CREATE INDEX IF NOT EXISTS refunds_intent ON refunds (payment_intent);
CREATE INDEX IF NOT EXISTS refunds_created ON refunds (created_ms);
CREATE INDEX IF NOT EXISTS refunds_settling ON refunds (settle_at_ms)
    WHERE settle_at_ms IS NOT NULL;

CREATE TABLE IF NOT EXISTS events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    type TEXT NOT NULL, created_ms INTEGER NOT NULL, body TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS deliveries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    event_number INTEGER NOT NULL REFERENCES events (number),
    due_ms INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, delivered_ms INTEGER
);
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (due_ms) WHERE delivered_ms IS NULL;

CREATE TABLE IF NOT EXISTS fault_rules (
    position INTEGER PRIMARY KEY, rule TEXT NOT NULL,
    remaining INTEGER, fired INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS fault_draws (
    position INTEGER NOT NULL, subject TEXT NOT NULL, draws INTEGER NOT NULL,
    PRIMARY KEY (position, subject)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fault_seed (
    one INTEGER PRIMARY KEY CHECK (one = 1), seed INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS cases (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL,
    refund_id TEXT NOT NULL, reference TEXT, customer_id TEXT NOT NULL, order_id TEXT NOT NULL,
    outcome TEXT NOT NULL, amount_minor INTEGER NOT NULL, currency TEXT NOT NULL, note TEXT
);
CREATE INDEX IF NOT EXISTS cases_refund ON cases (refund_id);
CREATE INDEX IF NOT EXISTS cases_reference ON cases (reference)
    WHERE reference IS NOT NULL;

CREATE TABLE IF NOT EXISTS coupons (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL,
    refund_id TEXT NOT NULL, reference TEXT, customer_id TEXT NOT NULL,
    amount_minor INTEGER NOT NULL, currency TEXT NOT NULL, status TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS coupons_refund ON coupons (refund_id);
CREATE INDEX IF NOT EXISTS coupons_reference ON coupons (reference)
    WHERE reference IS NOT NULL;

CREATE TABLE IF NOT EXISTS holds (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL,
    refund_id TEXT NOT NULL, reference TEXT, order_id TEXT NOT NULL, status TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS holds_refund ON holds (refund_id);
CREATE INDEX IF NOT EXISTS holds_reference ON holds (reference)
    WHERE reference IS NOT NULL;

CREATE TABLE IF NOT EXISTS labels (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL,
    refund_id TEXT NOT NULL, reference TEXT, order_id TEXT NOT NULL,
    item_ids TEXT NOT NULL, status TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS labels_refund ON labels (refund_id);
CREATE INDEX IF NOT EXISTS labels_reference ON labels (reference)
    WHERE reference IS NOT NULL;

CREATE TABLE IF NOT EXISTS messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL,
    refund_id TEXT NOT NULL, reference TEXT, audience TEXT NOT NULL, recipient TEXT NOT NULL,
    subject TEXT NOT NULL, body TEXT NOT NULL, link TEXT
);
CREATE INDEX IF NOT EXISTS messages_refund ON messages (refund_id);
CREATE INDEX IF NOT EXISTS messages_reference ON messages (reference)
    WHERE reference IS NOT NULL;
CREATE INDEX IF NOT EXISTS messages_audience ON messages (audience);
"""
