# The image needs no shell to run: a virtual environment, copied onto the base.
# The base is pinned to a tag; record its digest where an image can be pulled.
FROM python:3.11-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

RUN ["python", "-m", "venv", "/opt/dsqlproxy"]

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY dsqlproxy ./dsqlproxy
RUN ["/opt/dsqlproxy/bin/pip", "install", ".[tls]"]


FROM python:3.11-slim-bookworm

LABEL org.opencontainers.image.title="dsqlproxy" \
      org.opencontainers.image.description="A local proxy that lets any PostgreSQL client use Amazon Aurora DSQL" \
      org.opencontainers.image.licenses="Apache-2.0"

# HOME is where the AWS profile files are looked for: mount them at ~/.aws.
ENV HOME=/home/dsqlproxy \
    PATH=/opt/dsqlproxy/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

COPY --from=build /opt/dsqlproxy /opt/dsqlproxy
WORKDIR /home/dsqlproxy

# A number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 65532:65532

EXPOSE 5432 9090

# SIGTERM begins a drain of up to drain_timeout (25s), which is more than the ten
# seconds of `docker stop`: give it --stop-timeout 40 or stop_grace_period: 40s.
STOPSIGNAL SIGTERM

# For an admin.listen other than the default, set DSQLPROXY_ADMIN_LISTEN, which both
# the proxy and this check read.
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s --retries=3 \
    CMD ["dsqlproxy", "healthcheck"]

ENTRYPOINT ["dsqlproxy"]
CMD ["--config", "/etc/dsqlproxy/proxy.yaml"]
