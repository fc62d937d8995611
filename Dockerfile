# redis-ferry as a container. Build it with either of the engine's builders:
#     docker build --tag redis-ferry .
# BASE is any Debian-like image with Python 3.11 to 3.13; where no registry can be reached, make one from Debian's packages:
#     python -m deploy.local_images base && docker build --build-arg BASE=redis-ferry-base:local --tag redis-ferry .
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
# pip's own bundle lacks what an operator adds to the base's.
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# Debian's own Python has its headers in a package; the official images bring them. The compiler's version does not matter.
# hadolint ignore=DL3008
RUN apt-get update -qq \
    && if [ "$(command -v python3)" = /usr/bin/python3 ]; then headers=python3-dev; fi \
    && apt-get install -qq --no-install-recommends gcc libc6-dev ${headers:+"$headers"} >/dev/null
WORKDIR /source
RUN python3 -m venv /build && python3 -m venv /opt/redis-ferry
COPY pyproject.toml setup.py README.md ./
COPY engine engine
# The wheel first: what it was built with stays behind. An image without the compiled codec must not come to be.
RUN REDIS_FERRY_REQUIRE_COMPILED=1 /build/bin/pip wheel --quiet --no-deps --wheel-dir /wheels .
RUN /opt/redis-ferry/bin/pip install --quiet "$(ls /wheels/*.whl)[service,postgres]" \
    && find /opt/redis-ferry -name '*.so' -exec sh -c 'strip --strip-unneeded "$@" 2>/dev/null || true' sh {} + \
    && /opt/redis-ferry/bin/pip uninstall --quiet --yes pip setuptools \
    && find /opt/redis-ferry \( -name tests -o -name test \) -type d -path '*/site-packages/*' -prune -exec rm -r {} +

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="redis-ferry" \
      org.opencontainers.image.description="Moves the data and live writes of Redis servers and clusters into others" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/redis-ferry /opt/redis-ferry
RUN mkdir -m 0700 /var/lib/redis-ferry && chown 10001:10001 /var/lib/redis-ferry
ENV PATH=/opt/redis-ferry/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/var/lib/redis-ferry \
    XDG_STATE_HOME=/var/lib/redis-ferry \
    REDIS_FERRY_SERVE_STATE_DIR=/var/lib/redis-ferry \
    REDIS_FERRY_SERVE_LOG_FORMAT=json
USER 10001:10001
WORKDIR /var/lib/redis-ferry
VOLUME /var/lib/redis-ferry
EXPOSE 8000
# SIGTERM is handled by the process itself, which is PID 1: it stops within 15 s and keeps its checkpoints.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python3", "-m", "engine.control.health"]
ENTRYPOINT ["redis-ferry"]
CMD ["serve"]
