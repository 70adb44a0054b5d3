//! Tenant ids as real platforms have them, shared by the tests of the agent API and of the operator.

/// One id of each kind.
pub const PLATFORM_IDS: [&str; 25] = [
    // Words and domains.
    "acme",
    "Acme",
    "ACME",
    "acme-corp",
    "acme.com",
    "app.eu-1.acme.com",
    // Prefixes and counters.
    "tenant_123",
    "A_B",
    "a_b",
    "a1.b_2-c",
    "42",
    "1234567890123456789",
    // Billing, identity and chat platforms.
    "cus_NffrFeUfNV2Hib",
    "acct_1032D82eZvKYlo2C",
    "user_2NNEqL2nrIRdJ194ndJqAHwEfxC",
    "org_01HZX3V9Q2B7K4M8N6P5R0S1T2",
    "T024BE7LD",
    "00D300000000XXXEAZ",
    // Random and sortable ids: UUIDs of either case, ULID, ObjectId, nanoid, base64url.
    "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d",
    "9B1DEB4D-3B7D-4BAD-9BDD-2B0D7B3DCB6D",
    "01HZX3V9Q2B7K4M8N6P5R0S1T2",
    "507f1f77bcf86cd799439011",
    "V1StGXR8_Z5jdHi6B-myT",
    // The longest one, and one that looks like a hash in a name.
    "Longest_id.of-a-tenant-that-has-sixty-three-characters_in.all12",
    "xaaaaaaaaaaaaaaaaaaaaaaaaaa",
];
