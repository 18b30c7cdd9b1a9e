//! What nodes tell each other about writes: records of their audit logs, and who sends how much.
//!
//! Owns: the questions and answers about both.
//! Must not know: files, how a record is written or what is in one.
//! Invariants: an answer is bounded by the question's limit and by what a node looks at for one question.

use crate::ids::{DeviceId, MessageId, Millis, ThreadId, UserId};

crate::wire_struct! {
    /// Which records are asked for; what is `None` does not matter. Answer: [`AuditPage`].
    pub struct AuditQuery {
        1 => since: Millis,
        /// Exclusive.
        2 => until: Millis,
        /// Who wrote, or who was written about.
        3 => user: Option<UserId>,
        4 => device: Option<DeviceId>,
        5 => thread: Option<ThreadId>,
        6 => message: Option<MessageId>,
        /// As it stands in the record.
        7 => address: Option<String>,
        8 => status: Option<u32>,
        9 => trace: Option<String>,
        /// Records of carried-out writes up to this number have been seen.
        10 => writes_after: u64,
        /// And of refused ones.
        11 => refused_after: u64,
        /// Of each log, at most.
        12 => limit: u32,
    }
}

crate::wire_struct! {
    /// A node's answer: one part per log. None when it keeps none.
    pub struct AuditPage { 1 => parts: Vec<AuditPart> }
}

crate::wire_struct! {
    /// Records of one log, in order.
    pub struct AuditPart {
        /// The log of what was refused, or of what was carried out.
        1 => refused: bool,
        2 => lines: Vec<AuditLine>,
        /// Every record up to this number was looked at.
        3 => to: u64,
        /// There is more behind: what was looked at ends at this time.
        4 => reached: Option<Millis>,
        /// The last record that was written.
        5 => head: u64,
        /// Its chain, hexadecimal.
        6 => chain: String,
    }
}

crate::wire_struct! {
    /// One record.
    pub struct AuditLine {
        1 => n: u64,
        2 => at: Millis,
        /// As it stands in the log.
        3 => json: String,
    }
}

crate::wire_struct! {
    /// Who sent the most. Answer: [`SendersAnswer`].
    pub struct SendersQuery {
        /// Only this user.
        1 => user: Option<UserId>,
        2 => order: SendersOrder,
        3 => limit: u32,
    }
}

crate::wire_code! {
    /// What senders are compared by.
    pub enum SendersOrder {
        1 => Sends = "sends",
        2 => Recipients = "recipients",
        3 => NewThreads = "new_threads",
        4 => Refused = "refused",
    }
}

crate::wire_struct! {
    /// What a node counted, the most first.
    pub struct SendersAnswer { 1 => senders: Vec<SenderCounts> }
}

crate::wire_struct! {
    /// What one user did through one node within the last hour.
    pub struct SenderCounts {
        1 => user: UserId,
        2 => sends: u64,
        /// Of the busiest ten minutes.
        3 => peak_sends: u64,
        /// Members that the messages went to, all together.
        4 => recipients: u64,
        /// Of one message, at most.
        5 => recipients_max: u32,
        /// Messages that went to one, to 2-9, to 10-49 and to 50 and more.
        6 => fan_out: Vec<u64>,
        7 => new_threads: u64,
        8 => refused: u64,
    }
}

impl SenderCounts {
    /// By what it is compared.
    #[must_use]
    pub fn by(&self, order: SendersOrder) -> u64 {
        match order {
            SendersOrder::Sends => self.sends,
            SendersOrder::Recipients => self.recipients,
            SendersOrder::NewThreads => self.new_threads,
            SendersOrder::Refused => self.refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;
    use proptest::prelude::*;

    #[test]
    fn the_tags_are_pinned() {
        let line = AuditLine { n: 3, at: Millis(5), json: "{}".into() };
        let part = AuditPart { refused: true, lines: vec![line], to: 9, reached: None, head: 9, chain: "ab".into() };
        let bytes: [&[u8]; 3] = [
            &[0x08, 1, 0x12, 10, 0x0a, 8, 0x08, 3, 0x10, 5, 0x1a, 2, b'{', b'}'],
            &[0x18, 9, 0x28, 9],
            &[0x32, 2, b'a', b'b'],
        ];
        assert_eq!(part.to_wire(), bytes.concat());
        let query = SendersQuery { user: None, order: SendersOrder::Refused, limit: 7 };
        assert_eq!(query.to_wire(), [0x10, 4, 0x18, 7]);
    }

    proptest! {
        #[test]
        fn pages_and_counts_come_back(n: u64, at: u64, json in ".{0,30}", reached: Option<u64>, counts: [u64; 4]) {
            let lines = vec![AuditLine { n, at: Millis(at), json }];
            let part = AuditPart { refused: false, lines, to: n, reached: reached.map(Millis), head: n, chain: String::new() };
            let page = AuditPage { parts: vec![part] };
            prop_assert_eq!(AuditPage::from_wire(&page.to_wire()).unwrap(), page);
            let [sends, peak_sends, recipients, refused] = counts;
            let sender = SenderCounts {
                user: UserId::new("u").unwrap(), sends, peak_sends, recipients, recipients_max: 4,
                fan_out: counts.to_vec(), new_threads: 1, refused,
            };
            let answer = SendersAnswer { senders: vec![sender] };
            prop_assert_eq!(SendersAnswer::from_wire(&answer.to_wire()).unwrap(), answer);
        }

        #[test]
        fn bytes_that_are_no_question_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = (AuditQuery::from_wire(&bytes), AuditPage::from_wire(&bytes), SendersAnswer::from_wire(&bytes));
        }
    }
}
