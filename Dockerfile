# Both programs in one image; the command chooses. Build: docker build -t calendar-sync .
# Run with a read-only root file system: they write nothing but logs, to stderr.

# The version of rust-toolchain.toml, which stays out: it would fetch what only developers need.
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock ./
COPY crates crates
COPY examples examples
COPY migrations migrations
COPY tests tests
COPY xtask xtask
RUN cargo build --locked --release --package calendar-api --package calendar-worker

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="calendar-sync" \
      org.opencontainers.image.description="Keeps a true copy of your users' calendars in your own PostgreSQL" \
      org.opencontainers.image.source="https://github.com/calendar-sync/calendar-sync" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /src/target/release/calendar-api /src/target/release/calendar-worker /usr/local/bin/
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
ENV CALENDAR_LISTEN=0.0.0.0:8080 CALENDAR_LOG_FORMAT=json
EXPOSE 8080
# By bash's own sockets: there is no curl here. The worker serves nothing that could be asked.
HEALTHCHECK --interval=30s --timeout=5s --start-period=70s CMD ["bash", "-c", "[ \"$(cat /proc/1/comm)\" != calendar-api ] || { exec 3<>/dev/tcp/127.0.0.1/${CALENDAR_LISTEN##*:} && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]; }"]
CMD ["calendar-api"]
