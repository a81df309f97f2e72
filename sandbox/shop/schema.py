"""The tables and views of shop.db, which others read with plain SQL.

The statements run on a connection that has shop.db attached as `shop`.
"""

SHOP_SCHEMA = """
CREATE TABLE IF NOT EXISTS shop.customers (
    customer_id TEXT PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL,
    state TEXT NOT NULL, zip TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS shop.payment_methods (
    payment_method_id TEXT PRIMARY KEY, customer_id TEXT NOT NULL,
    source TEXT NOT NULL, brand TEXT, last_four TEXT
);
CREATE INDEX IF NOT EXISTS shop.payment_methods_customer ON payment_methods (customer_id);

CREATE TABLE IF NOT EXISTS shop.orders (
    order_id TEXT PRIMARY KEY, customer_id TEXT NOT NULL, status TEXT NOT NULL,
    currency TEXT NOT NULL, ship_state TEXT NOT NULL, ship_zip TEXT NOT NULL,
    ship_country TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS shop.orders_customer ON orders (customer_id);

CREATE TABLE IF NOT EXISTS shop.order_items (
    order_id TEXT NOT NULL, line_no INTEGER NOT NULL, item_id TEXT NOT NULL,
    product_id TEXT NOT NULL, name TEXT NOT NULL, price_minor INTEGER NOT NULL,
    options TEXT NOT NULL,
    PRIMARY KEY (order_id, line_no)
);

CREATE TABLE IF NOT EXISTS shop.payments (
    order_id TEXT NOT NULL, line_no INTEGER NOT NULL,
    type TEXT NOT NULL CHECK (type IN ('payment', 'refund')), amount_minor INTEGER NOT NULL,
    payment_method_id TEXT NOT NULL, charge_id TEXT NOT NULL,
    PRIMARY KEY (order_id, line_no)
);

CREATE TABLE IF NOT EXISTS shop.fulfillments (
    order_id TEXT NOT NULL, tracking_id TEXT NOT NULL, item_id TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS shop.fulfillments_order ON fulfillments (order_id);

CREATE TABLE IF NOT EXISTS shop.after_sales (
    record_id TEXT PRIMARY KEY, order_id TEXT NOT NULL, customer_id TEXT NOT NULL,
    kind TEXT NOT NULL, status TEXT NOT NULL, amount_minor INTEGER NOT NULL,
    currency TEXT NOT NULL, note TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS shop.after_sales_order ON after_sales (order_id);
CREATE INDEX IF NOT EXISTS shop.after_sales_customer ON after_sales (customer_id);

CREATE VIEW IF NOT EXISTS shop.risk_features AS
SELECT
    customers.customer_id,
    count(orders.order_id) AS orders_total,
    coalesce(sum(orders.status = 'delivered'), 0) AS orders_delivered,
    coalesce(sum(orders.status = 'pending'), 0) AS orders_pending,
    coalesce(sum(orders.status = 'processed'), 0) AS orders_processed,
    coalesce(sum(orders.status = 'cancelled'), 0) AS orders_cancelled,
    coalesce(sum((
        SELECT sum(amount_minor) FROM payments
        WHERE payments.order_id = orders.order_id AND payments.type = 'payment'
    )), 0) AS spent_minor,
    coalesce(sum((
        SELECT sum(amount_minor) FROM payments
        WHERE payments.order_id = orders.order_id AND payments.type = 'refund'
    )), 0) AS refunded_minor,
    orders.currency
FROM customers LEFT JOIN orders ON orders.customer_id = customers.customer_id
GROUP BY customers.customer_id, orders.currency;
"""
