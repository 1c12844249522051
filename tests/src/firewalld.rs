//! firewalld's rules as `nft list ruleset` shows them, with the zone `public` that lets port 22 in.

/// The table. `zones` is what tells a zone by the interface, `more` what the chain of incoming packets says besides.
pub fn table(zones: &str, more: &str) -> String {
    format!(
        "table inet firewalld {{
            chain filter_IN_public_allow {{ tcp dport 22 accept; }}
            chain filter_IN_public {{ jump filter_IN_public_allow; }}
            chain filter_INPUT_ZONES {{ {zones} goto filter_IN_public; }}
            chain filter_INPUT {{
                type filter hook input priority filter + 10; policy accept;
                ct state {{ established, related }} accept
                ct status dnat accept
                iifname lo accept
                ct state invalid drop
                {more}
                jump filter_INPUT_ZONES
                reject with icmpx admin-prohibited
            }}
            chain filter_FORWARD {{
                type filter hook forward priority filter + 10; policy accept;
                ct state {{ established, related }} accept
                ct status dnat accept
                iifname lo accept
                ct state invalid drop
                reject with icmpx admin-prohibited
            }}
        }}"
    )
}

/// What it has besides (`IPv6_rpfilter`): packets whose source isn't behind the interface that they came in by.
pub const REVERSE_PATH: &str = "table inet firewalld {
    chain filter_PREROUTING {
        type filter hook prerouting priority filter + 10; policy accept;
        icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
        meta nfproto ipv6 fib saddr . mark . iif oif missing drop
    }
}";
