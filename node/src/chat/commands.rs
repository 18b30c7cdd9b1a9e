//! What the person asks for.
//!
//! Owns: what each line does.
//! Must not know: how anything looks.

use super::conversation::{ChatError, Conversation};
use super::input::Line;
use messenger_client::ClientError;
use messenger_client::e2e::{CourierError, Record, RecordKind, safety_number};
use messenger_proto::ids::UserId;

const HELP: &str = "  /who           who is here, and who has read your last message
  /verify        safety numbers: compare them with the other person's, in another way
  /devices       everyone's devices
  /edit text     say something else in your last message
  /delete        delete your last message
  /react emoji   put an emoji on the last message
  /history [n]   show the last n messages again
  /threads       list your conversations
  /quit          leave (also Ctrl-D)
  //text         send a message that begins with /";

/// Messages shown by `/history` when no number is given.
const AGAIN: usize = 20;

impl Conversation {
    pub(super) async fn line(&mut self, line: Line) -> Result<(), ChatError> {
        match line {
            Line::Message(text) => self.send(text)?,
            Line::Help => self.console.screen.show(HELP),
            Line::Who => {
                let text = self.who().await;
                self.answer(text);
            }
            Line::Verify => {
                let text = self.verify().await;
                self.answer(text);
            }
            Line::Devices => {
                let text = self.devices().await;
                self.answer(text);
            }
            Line::Edit(text) => self.edit(&text).await?,
            Line::Delete => {
                let own = self.last(|record, me| record.sender == *me)?;
                match own {
                    Some(record) => {
                        let done = self.rest.delete(record.id).await;
                        self.answer(done.map(|()| String::new()).map_err(CourierError::from));
                    }
                    None => self.notice("there is no message of yours"),
                }
            }
            Line::React(emoji) => match self.last(|_, _| true)? {
                Some(record) => {
                    let done = self.rest.react(record.id, &emoji).await;
                    self.answer(done.map(|_| String::new()).map_err(CourierError::from));
                }
                None => self.notice("there is no message yet"),
            },
            Line::History(count) => {
                let records = self.vault.history(self.thread.id, count.unwrap_or(AGAIN))?;
                self.again(&records);
            }
            Line::Threads => match self.rest.threads(Some(50), None).await {
                Ok(page) => {
                    self.elsewhere = 0;
                    let text = self.view.threads(&page.threads);
                    self.console.screen.show(&text);
                }
                Err(error) => self.notice(&error.to_string()),
            },
            Line::Wrong(why) => self.notice(&why),
            Line::Nothing | Line::Quit => {}
        }
        Ok(())
    }

    fn answer(&mut self, answer: Result<String, CourierError>) {
        match answer {
            Ok(text) if text.is_empty() => {}
            Ok(text) => self.console.screen.show(&text),
            Err(error) => self.notice(&error.to_string()),
        }
    }

    /// The newest message on record that fits and still says something.
    fn last(&self, fits: impl Fn(&Record, &UserId) -> bool) -> Result<Option<Record>, ChatError> {
        let records = self.vault.history(self.thread.id, AGAIN)?;
        let says = |record: &Record| !matches!(record.kind, RecordKind::Deleted | RecordKind::Expired);
        Ok(records.into_iter().rev().find(|record| says(record) && fits(record, self.vault.user())))
    }

    async fn edit(&mut self, text: &str) -> Result<(), ChatError> {
        let Some(record) = self.last(|record, me| record.sender == *me)? else {
            self.notice("there is no message of yours");
            return Ok(());
        };
        let members: Vec<UserId> = self.thread.participants.iter().map(|member| member.user_id.clone()).collect();
        match self.courier.edit(self.thread.id, record.id, text, members).await {
            Ok(()) => {
                if let Some(after) = self.vault.record(self.thread.id, record.id)? {
                    let text = self.view.edited(&record, &after);
                    self.console.screen.show(&text);
                }
            }
            Err(error) => self.notice(&error.to_string()),
        }
        Ok(())
    }

    fn again(&mut self, records: &[Record]) {
        self.notice(&format!("the last {} messages", records.len()));
        for record in records {
            let text = self.view.record(record);
            self.console.screen.show(&text);
        }
        self.notice("end of history");
    }

    async fn who(&mut self) -> Result<String, CourierError> {
        self.thread = self.rest.thread(self.thread.id).await?;
        let recipients = match self.view.last_own() {
            Some(id) => self.rest.recipients(id).await?,
            None => Vec::new(),
        };
        Ok(self.view.who(&self.thread.participants, &recipients))
    }

    fn members(&self) -> Vec<UserId> {
        self.thread.participants.iter().map(|member| member.user_id.clone()).collect()
    }

    /// A number for each of the others, of all devices of theirs and of the user's own.
    async fn verify(&mut self) -> Result<String, CourierError> {
        let members = self.members();
        self.courier.forget_all();
        self.courier.devices_of(&members).await?;
        let mut lines = Vec::new();
        let me = self.vault.user().clone();
        let identities = |user: &UserId| -> Result<Vec<_>, CourierError> {
            Ok(self.vault.identities(user)?.into_iter().map(|(_, identity)| identity).collect())
        };
        let own = identities(&me)?;
        for user in members.iter().filter(|user| **user != me) {
            let theirs = identities(user)?;
            let number = (!theirs.is_empty()).then(|| safety_number((&me, &own), (user, &theirs)));
            lines.push(self.view.safety(user, theirs.len(), number.as_deref()));
        }
        Ok(lines.join("\n"))
    }

    async fn devices(&mut self) -> Result<String, CourierError> {
        let mut lines = Vec::new();
        for user in self.members() {
            let devices = self.rest.devices(&user).await.map_err(CourierError::from);
            let devices = match devices {
                Err(CourierError::Client(ClientError::Refused(problem))) if problem.status == 404 => Vec::new(),
                other => other?,
            };
            let known = self.vault.identities(&user)?;
            let own = (user == *self.vault.user()).then(|| self.vault.device().clone());
            lines.push(self.view.devices(&user, &devices, &known, own.as_ref()));
        }
        Ok(lines.join("\n"))
    }
}
