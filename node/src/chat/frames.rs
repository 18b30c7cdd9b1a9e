//! What comes over the connection.
//!
//! Owns: what each frame does to what this device keeps, and what is shown of it.
//! Must not know: how anything looks, and how a connection works.
//! Invariants: what a frame brings is kept before the next one is asked for, which is what acknowledges it; frames of
//! other threads are kept too.

use super::conversation::{Backlog, ChatError, Conversation};
use messenger_client::e2e::{Received, Record, RecordKind};
use messenger_client::{ClientError, Gap, GapReader, Message, ServerFrame, ThreadChange, ThreadFrame};
use messenger_proto::ids::UserId;

impl Conversation {
    pub(super) async fn frame(&mut self, frame: ServerFrame) -> Result<(), ChatError> {
        match frame {
            ServerFrame::Message(message) => self.message(&message).await?,
            ServerFrame::CaughtUp => self.caught_up().await,
            ServerFrame::Edit(edit) => {
                let before = self.vault.record(edit.thread_id, edit.id)?;
                if let (Some(before), Some(received)) = (before, self.vault.edited(&edit)?) {
                    self.told(&received);
                    let after = received.record;
                    // What this device edited itself is on screen already.
                    if (before.kind, &before.text) != (after.kind, &after.text) {
                        self.changed(&before, &after, |view, before, after| view.edited(before, after));
                    }
                }
            }
            ServerFrame::Delete(deletion) => {
                let before = self.vault.record(deletion.thread_id, deletion.id)?;
                if let (Some(before), Some(received)) = (before, self.vault.deleted(&deletion)?) {
                    self.changed(&before, &received.record, |view, before, after| view.gone(before, after));
                }
            }
            ServerFrame::Reaction(reaction) => {
                if let Some(received) = self.vault.reacted(&reaction)? {
                    let record = received.record;
                    if self.is_on_screen(&record) {
                        let text = self.view.reaction(&record, &reaction);
                        self.console.screen.show(&text);
                    }
                }
            }
            ServerFrame::Receipt(receipt) if receipt.thread_id == self.thread.id => {
                self.show_some(|view| view.receipt(&receipt));
            }
            ServerFrame::Thread(frame) if frame.thread_id == self.thread.id => self.thread_changed(&frame),
            ServerFrame::Typing(typing) if typing.thread_id == self.thread.id => {
                self.show_some(|view| view.typing(&typing));
            }
            ServerFrame::Presence(there) if self.is_member(&there.user_id) => {
                self.show_some(|view| view.presence(&there));
            }
            ServerFrame::Devices(user) => {
                self.courier.forget(&user);
                self.queue.hurry();
            }
            ServerFrame::PrekeysLow(_) => self.publish(),
            ServerFrame::Gap(gap) => self.fill(&gap).await?,
            ServerFrame::Error { problem, .. } => self.notice(&problem.to_string()),
            _ => {}
        }
        Ok(())
    }

    fn show_some(&mut self, text: impl FnOnce(&mut super::view::View) -> Option<String>) {
        if let Some(text) = text(&mut self.view) {
            self.console.screen.show(&text);
        }
    }

    fn is_member(&self, user: &UserId) -> bool {
        self.thread.participants.iter().any(|member| member.user_id == *user)
    }

    fn is_on_screen(&self, record: &Record) -> bool {
        record.thread == self.thread.id && Some(record.id) <= self.shown_to && self.backlog.is_none()
    }

    fn changed(
        &mut self,
        before: &Record,
        after: &Record,
        text: impl FnOnce(&mut super::view::View, &Record, &Record) -> String,
    ) {
        if before != after && self.is_on_screen(after) {
            let text = text(&mut self.view, before, after);
            self.console.screen.show(&text);
        }
    }

    fn told(&mut self, received: &Received) {
        for news in &received.news {
            let text = self.view.news(news);
            self.console.screen.show(&text);
        }
    }

    async fn message(&mut self, message: &Message) -> Result<(), ChatError> {
        let received = self.vault.take(message)?;
        self.told(&received);
        let record = received.record;
        if received.is_new && record.kind == RecordKind::Unreadable {
            // What is written to that device next begins a new session.
            self.courier.forget(&record.sender);
        }
        if record.thread != self.thread.id {
            self.elsewhere += usize::from(received.is_new);
            // One notice is enough; the list has the rest.
            if self.elsewhere == 1 && received.is_new {
                self.notice(&format!("{} wrote in another thread; see /threads", record.sender));
            }
            return Ok(());
        }
        let waited = self.unshown.remove(&record.id);
        if !received.is_new && !waited && Some(record.id) <= self.shown_to {
            return Ok(());
        }
        if let Some(backlog) = &mut self.backlog {
            backlog.push(record, received.is_new || waited);
        } else {
            self.show(&record);
            self.mark_read(record.id).await;
        }
        Ok(())
    }

    /// A message comes to stand on screen.
    pub(super) fn show(&mut self, record: &Record) {
        let text = self.view.record(record);
        self.console.screen.show(&text);
        self.shown_to = self.shown_to.max(Some(record.id));
    }

    /// The replay is complete: the newest of what it brought is shown.
    async fn caught_up(&mut self) {
        let Some(backlog) = self.backlog.take() else { return };
        if backlog.absent > 0 {
            let count = backlog.absent;
            let messages = if count == 1 { "message was" } else { "messages were" };
            self.notice(&format!("{count} earlier {messages} not sent to this device: it cannot read them"));
        }
        if backlog.skipped > 0 {
            self.notice(&format!("{} more messages came; /history shows them", backlog.skipped));
        }
        for record in &backlog.records {
            self.show(record);
        }
        if let Some(last) = backlog.records.back() {
            self.mark_read(last.id).await;
        }
    }

    fn thread_changed(&mut self, frame: &ThreadFrame) {
        match frame.change() {
            ThreadChange::Added(user) => {
                if let Ok(user_id) = UserId::new(user)
                    && !self.is_member(&user_id)
                {
                    let (role, joined_at) = ("member".to_owned(), String::new());
                    let member = messenger_client::Participant { user_id, role, joined_at };
                    self.thread.participants.push(member);
                }
                self.queue.hurry();
            }
            ThreadChange::Removed(user) => {
                self.thread.participants.retain(|member| member.user_id.as_str() != user);
            }
            ThreadChange::Created | ThreadChange::Other(_) => {}
        }
        self.show_some(|view| view.change(frame));
    }

    /// Reads over REST what the replay left out, changes to what this device has, too.
    async fn fill(&mut self, gap: &Gap) -> Result<(), ChatError> {
        let mut reader = GapReader::resume(self.filling.take(), gap);
        loop {
            let page = match reader.next(&self.rest).await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                // Whoever is no member any more is shown nothing.
                Err(ClientError::Refused(problem)) if !problem.retryable() => break,
                Err(error) => return Err(error.into()),
            };
            for message in &page {
                let before = self.vault.record(message.thread_id, message.id)?;
                self.message(message).await?;
                if let (Some(before), Some(after)) = (before, self.vault.record(message.thread_id, message.id)?)
                    && (before.kind, &before.text) != (after.kind, &after.text)
                {
                    self.changed(&before, &after, |view, before, after| match after.kind {
                        RecordKind::Deleted | RecordKind::Expired => view.gone(before, after),
                        _ => view.edited(before, after),
                    });
                }
            }
        }
        self.filling = Some(reader);
        Ok(())
    }
}

impl Backlog {
    /// What fills a gap comes in the order of changes, and again in the frames behind it.
    fn push(&mut self, record: Record, is_new: bool) {
        let at = self.records.partition_point(|known| known.id < record.id);
        if let Some(known) = self.records.get_mut(at).filter(|known| known.id == record.id) {
            *known = record;
            return;
        }
        if !is_new {
            return;
        }
        if record.kind == RecordKind::Absent {
            self.absent += 1;
            return;
        }
        self.records.insert(at, record);
        if self.records.len() > self.keep {
            self.records.pop_front();
            self.skipped += 1;
        }
    }
}
