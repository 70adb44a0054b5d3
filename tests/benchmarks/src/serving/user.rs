//! A tenant's users: they chat with a token that the tenant's own key has signed, five questions to a conversation.

use std::sync::{Mutex, PoisonError};

use devkit::{SigningKey, TestToken};
use reqwest::{
    Client,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use serde::Deserialize;
use serde_json::json;

/// Questions of one conversation: later ones make the replica read the history.
const QUESTIONS: u32 = 5;

/// The users of one tenant.
#[derive(Debug)]
pub(super) struct User {
    tenant: String,
    authorization: HeaderValue,
    /// Conversations that go on, with the questions asked so far.
    conversations: Mutex<Vec<(String, u32)>>,
}

/// What an answer shows.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    conversation_id: String,
    message: String,
    /// The model that answered, so the revision of the AgentConfig.
    pub(super) model: String,
}

impl User {
    /// Users of a tenant, with a token that is good for the hour that Tenants allow by default.
    pub(super) fn new(tenant: &str, key: &SigningKey) -> anyhow::Result<User> {
        let token = TestToken::new(tenant, "bench").scope("chat:write settings:read").seconds(3600).sign(key)?;
        let mut authorization = HeaderValue::from_str(&format!("Bearer {token}"))?;
        authorization.set_sensitive(true);
        Ok(User { tenant: tenant.to_owned(), authorization, conversations: Mutex::default() })
    }

    /// The tenant.
    pub(super) fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Asks one question, in an existing conversation or a new one. The error says why there is no answer.
    pub(super) async fn chat(&self, client: &Client, replica: &str) -> Result<Answer, String> {
        let conversation = self.conversations.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let asked = conversation.as_ref().map_or(0, |(_, asked)| *asked);
        let question = match &conversation {
            Some((id, _)) => json!({ "message": "And what about the fee?", "conversationId": id }),
            None => json!({ "message": "How do I get a refund?" }),
        };
        let answer = self.ask(client, replica, question.to_string()).await?;
        if !answer.message.starts_with("echo: ") {
            return Err("an answer that is none".to_owned());
        }
        if asked + 1 < QUESTIONS {
            let goes_on = (answer.conversation_id.clone(), asked + 1);
            self.conversations.lock().unwrap_or_else(PoisonError::into_inner).push(goes_on);
        }
        Ok(answer)
    }

    /// The agent's revision from the settings, which take one transaction instead of two.
    pub(super) async fn revision(&self, client: &Client, replica: &str) -> Result<i64, String> {
        let request = client
            .get(format!("{replica}/api/v1/tenants/{}/settings", self.tenant))
            .header(AUTHORIZATION, self.authorization.clone());
        let settings: serde_json::Value = send(request).await?;
        settings["agents"]["main"]["revision"].as_i64().ok_or_else(|| "settings without a revision".to_owned())
    }

    async fn ask(&self, client: &Client, replica: &str, question: String) -> Result<Answer, String> {
        let request = client
            .post(format!("{replica}/api/v1/tenants/{}/chat", self.tenant))
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(question);
        send(request).await
    }
}

async fn send<T: serde::de::DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T, String> {
    let broken = |error: reqwest::Error| format!("{:#}", anyhow::Error::from(error.without_url()));
    let response = request.send().await.map_err(broken)?;
    let status = response.status().as_u16();
    let body = response.bytes().await.map_err(broken)?;
    if status == 200 {
        return serde_json::from_slice(&body).map_err(|error| format!("an answer that can't be read: {error}"));
    }
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    Err(format!("{status} {}", problem["code"].as_str().unwrap_or("without a code")))
}
