//! The same load against etcd.
//!
//! Owns: the little of etcd's API that a put takes.
//! Must not know: how etcd is started.

use super::load::{Failure, Plan, Progress, Run, Sender, closed_loop, on_own_thread};
use super::payload::Payload;
use super::report::SendReport;
use http::uri::PathAndQuery;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

const PUT: &str = "/etcdserverpb.KV/Put";
/// Of one put.
const LIMIT: Duration = Duration::from_secs(10);

/// `etcdserverpb.PutRequest`, as far as it is used.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `etcdserverpb.PutResponse`; its header is of no interest.
#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

/// What to do to an etcd.
#[derive(Debug, Clone)]
pub struct EtcdLoad {
    /// Client URLs, one per member.
    pub endpoints: Vec<String>,
    /// Closed-loop senders, spread over the connections.
    pub clients: usize,
    /// HTTP/2 connections per member.
    pub connections: usize,
    /// Bytes of a value.
    pub payload: usize,
    /// How long.
    pub plan: Plan,
    /// How long to wait for etcd to come up.
    pub wait: Duration,
}

struct Putter {
    client: Grpc<Channel>,
    prefix: String,
    number: u64,
    payload: Payload,
}

impl Putter {
    async fn put(&mut self) -> Result<(), Status> {
        let request = PutRequest {
            key: format!("{}{:08}", self.prefix, self.number).into_bytes(),
            value: self.payload.fill().to_vec(),
        };
        self.client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let codec: ProstCodec<PutRequest, PutResponse> = ProstCodec::default();
        self.client.unary(Request::new(request), PathAndQuery::from_static(PUT), codec).await.map(drop)
    }
}

impl Sender for Putter {
    async fn send_one(&mut self) -> Result<(), Failure> {
        match self.put().await {
            Ok(()) => {
                self.number += 1;
                Ok(())
            }
            Err(status) => Err(Failure { code: format!("{:?}", status.code()).to_lowercase(), again: true }),
        }
    }
}

/// Puts values, each under a key of its own.
///
/// # Errors
/// A text when etcd cannot be reached.
pub async fn put(load: EtcdLoad, progress: Progress) -> Result<SendReport, String> {
    let (clients, payload) = (load.clients, load.payload);
    let run = on_own_thread(move || run(load, progress)).await.map_err(|e| e.to_string())??;
    Ok(SendReport::new("etcd", "grpc", clients, payload, &run))
}

async fn run(load: EtcdLoad, progress: Progress) -> Result<Run, String> {
    let run_id: u32 = rand::random();
    let mut channels = Vec::new();
    for text in &load.endpoints {
        let endpoint = Endpoint::from_shared(text.clone()).map_err(|e| format!("{text}: {e}"))?;
        let endpoint = endpoint.tcp_nodelay(true).connect_timeout(LIMIT).timeout(LIMIT);
        for _ in 0..load.connections.max(1) {
            channels.push(endpoint.connect_lazy());
        }
    }
    if channels.is_empty() {
        return Err("name at least one endpoint".into());
    }
    let putter = |name: String, channel: &Channel| Putter {
        client: Grpc::new(channel.clone()),
        prefix: format!("{run_id:08x}/{name}/"),
        number: 0,
        payload: Payload::new(load.payload),
    };
    let until = Instant::now() + load.wait;
    for (number, channel) in channels.iter().enumerate() {
        let mut probe = putter(format!("probe-{number}"), channel);
        while let Err(status) = probe.put().await {
            if Instant::now() >= until {
                return Err(format!("etcd does not take a put: {}", status.message()));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
    let putters = (0..load.clients).map(|n| putter(n.to_string(), &channels[n % channels.len()])).collect();
    Ok(closed_loop(putters, load.plan, progress).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn a_put_has_etcds_bytes() {
        let request = PutRequest { key: b"k".to_vec(), value: b"vw".to_vec() };
        assert_eq!(request.encode_to_vec(), b"\x0a\x01k\x12\x02vw");
        // A header is passed over.
        assert!(PutResponse::decode(&b"\x0a\x02\x08\x01"[..]).is_ok());
    }
}
