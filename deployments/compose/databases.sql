-- Prefect's own database beside the ledger: either can be restored without the other.
CREATE DATABASE prefect OWNER refunds;
