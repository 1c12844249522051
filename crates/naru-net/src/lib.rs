//! Bridge, veth, address management and nftables over netlink.
