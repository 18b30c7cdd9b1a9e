//! All families, in the order of their tags.
//!
//! Owns: the list that says no two share a tag and the documentation names each.
//! Must not know: what is in a row.

use super::key::Key;

macro_rules! families {
    ($($module:ident: $key:ident),* $(,)?) => {
        /// The tag of each, and its module.
        const FAMILIES: &[(u8, &str)] = &[$((<super::$module::$key as Key>::TAG, stringify!($module))),*];
    };
}

families! {
    shard: ShardKey,
    cluster: ClusterKey,
    thread: ThreadKey,
    head: HeadKey,
    member: MemberKey,
    message: MessageKey,
    event: EventKey,
    message_id: MessageIdKey,
    client_seq: ClientSeqKey,
    envelopes: EnvelopesKey,
    watermark: WatermarkKey,
    history: HistoryKey,
    position: PositionKey,
    member_devices: MemberDevicesKey,
    member_blocks: MemberBlocksKey,
    block: BlockKey,
    blocker: BlockerKey,
    resent: ResentKey,
    dedupe: DedupeKey,
    expiry: ExpiryKey,
    due: DueKey,
    outbox: OutboxRowKey,
    profile_due: ProfileDueKey,
    user_thread: UserThreadKey,
    user: UserKey,
    departure: DepartureKey,
    device: DeviceKey,
    prekey: PrekeyKey,
    bundles: BundlesKey,
    device_past: DevicePastKey,
    devices: DevicesKey,
    privacy: PrivacyKey,
    blocks: BlocksKey,
    unread_resent: UnreadResentKey,
    suspension: SuspensionKey,
    report: ReportKey,
    user_report: UserReportKey,
}

const DOCUMENTED: &str = include_str!("mod.rs");

#[test]
fn no_two_families_share_a_tag() {
    for pair in FAMILIES.windows(2) {
        assert!(pair[0].0 < pair[1].0, "{pair:x?}");
    }
    // What follows the last row of a family is found by counting its tag up.
    assert!(FAMILIES.iter().all(|(tag, _)| *tag != 0xff));
}

#[test]
fn the_list_has_every_module() {
    let modules = DOCUMENTED.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let mut modules: Vec<&str> = modules.filter(|module| *module != "key").collect();
    let mut listed: Vec<&str> = FAMILIES.iter().map(|(_, module)| *module).collect();
    modules.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, modules);
}

#[test]
fn the_table_names_every_family_in_order() {
    let rows = DOCUMENTED.lines().filter_map(|line| line.strip_prefix("//! | "));
    let rows: Vec<String> = rows.filter_map(|row| row.split_once("`]").map(|(head, _)| head.to_owned())).collect();
    let families: Vec<String> = FAMILIES.iter().map(|(tag, module)| format!("{tag:02x} | [`{module}")).collect();
    assert_eq!(rows, families);
}
