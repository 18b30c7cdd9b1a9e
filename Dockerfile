# One node of a Messenger cluster: docker build -t messenger .
# docker-compose.yml runs three of them; deploy/kubernetes does so in a cluster.

FROM rust:1.95-slim-bookworm AS build
# RocksDB is compiled: make, a C++ compiler, libclang.
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ libclang-dev make \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/target,sharing=locked \
    CARGO_TARGET_DIR=/target cargo build --locked --release --workspace --bin messenger \
 && install -D -m 0755 /target/release/messenger /out/messenger \
 && install -d -m 0700 /out/data

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends libstdc++6 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/messenger /usr/local/bin/messenger
COPY --from=build --chown=10001:10001 /out/data /var/lib/messenger
# A number, so that whoever runs the image can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/messenger
ENV MESSENGER_CONFIG=/etc/messenger/node.toml \
    MESSENGER_LISTEN_IP=0.0.0.0 \
    MESSENGER_LOG_FORMAT=json
VOLUME ["/var/lib/messenger"]
# For clients, for other nodes, for operators.
EXPOSE 7401 7501 7601
# SIGTERM drains; it takes at most some 20 s, so stop it with a minute's patience.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD ["messenger", "health"]
ENTRYPOINT ["messenger"]
CMD ["serve"]
