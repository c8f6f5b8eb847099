# The images: targets cpu, test and cuda. Needs neither BuildKit nor a frontend image.
#
# BASE_IMAGE is pinned by digest. Where no container registry is reachable, `make base-image` makes a base from
# Debian packages, and a second one for the build stages (BUILD_IMAGE) that also holds wheels and pip's settings.
# Nothing is run in the final stages: they only copy, so that what they add to the base holds neither pip nor a
# cache. Modes and times are set beforehand, because a checkout's depend on who cloned it.
ARG BASE_IMAGE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
ARG BUILD_IMAGE=${BASE_IMAGE}

# The checkout's part, byte code included, and what each image is made of, for code inside to read.
FROM ${BUILD_IMAGE:-${BASE_IMAGE}} AS sources
ARG SOURCE_DATE_EPOCH=1700000000
WORKDIR /opt/ptychopinn/src
COPY pyproject.toml LICENSE Dockerfile ./
COPY docker docker
COPY tools tools
COPY runs runs
COPY ptycho_torch ptycho_torch
COPY harness harness
RUN mkdir -p runs/_out ../data \
    && chmod -R u=rwX,go=rX . \
    && PYTHONHASHSEED=0 python3 -m compileall -qq -f --invalidation-mode unchecked-hash -s /opt/ptychopinn/src \
        harness ptycho_torch \
    && for target in cpu cuda test; do \
        mkdir -p /records/$target && python3 -m harness.build_id write . $target /records/$target/build.json || exit; \
    done \
    && find /opt/ptychopinn /records -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

# What the images that run have in common.
FROM ${BASE_IMAGE} AS run
ENV PATH=/opt/ptychopinn/venv/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib XDG_CACHE_HOME=/tmp/cache \
    TORCHINDUCTOR_CACHE_DIR=/tmp/inductor HARNESS_CACHE=/opt/ptychopinn/data \
    REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt
WORKDIR /opt/ptychopinn/src
USER 65532:65532
ENTRYPOINT ["/opt/ptychopinn/src/docker/entrypoint.sh"]
CMD ["harness", "--help"]
ARG BASE_IMAGE
ARG BASE_DIGEST
LABEL org.opencontainers.image.title="PtychoPINN reproducible-run harness" \
    org.opencontainers.image.description="A YAML run spec goes in, a bit-exact, re-runnable PtychoPINN training run comes out." \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.licenses="BSD-3-Clause" \
    org.opencontainers.image.base.name="${BASE_IMAGE}" \
    org.opencontainers.image.base.digest="${BASE_DIGEST}"

# The environment, by the script and the lock that make it outside.
FROM ${BUILD_IMAGE:-${BASE_IMAGE}} AS environment-cpu
ARG SOURCE_DATE_EPOCH=1700000000
ARG TORCH_CPU_INDEX
WORKDIR /opt/ptychopinn/src
COPY tools/install.sh tools/
COPY docker/requirements-cpu.lock docker/
RUN mkdir -p /usr/local/share/wheels \
    && TOOLS= WHEELS=/usr/local/share/wheels PIP_NO_CACHE_DIR=1 \
        sh tools/install.sh /opt/ptychopinn/venv docker/requirements-cpu.lock \
    && /opt/ptychopinn/venv/bin/python -m pip uninstall --quiet --yes pip \
    && find /opt/ptychopinn/venv -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

FROM run AS cpu
COPY --from=environment-cpu /opt/ptychopinn/venv /opt/ptychopinn/venv
COPY --from=sources /opt/ptychopinn /opt/ptychopinn
COPY --from=sources /records/cpu /opt/ptychopinn
ARG REVISION
ARG BUILD_ID
LABEL ptychopinn.target="cpu" ptychopinn.build-id="${BUILD_ID}" org.opencontainers.image.revision="${REVISION}"

# The environment of the tests: the same, the tools, and git. What is tested is the checkout that is mounted.
FROM environment-cpu AS test
RUN command -v git >/dev/null \
    || (apt-get update -qq && apt-get install -qq --yes --no-install-recommends git >/dev/null \
        && rm -rf /var/lib/apt/lists /var/cache/apt /var/log/*)
COPY docker/requirements-dev.lock docker/
RUN awk 'FNR == NR { if (/^[^ ]/) known[$1]; next } /^[^ #]/ { skip = ($1 in known) } !skip' \
        docker/requirements-cpu.lock docker/requirements-dev.lock >/tmp/tools.txt \
    && /opt/ptychopinn/venv/bin/python -m ensurepip >/dev/null \
    && /opt/ptychopinn/venv/bin/python -m pip install -qq --no-cache-dir --no-deps --only-binary=:all: \
        --root-user-action=ignore --require-hashes --requirement /tmp/tools.txt \
    && echo /opt/ptychopinn/checkout >/opt/ptychopinn/venv/lib/python3.11/site-packages/ptychopinn-harness.pth \
    && rm /tmp/tools.txt
COPY --from=sources /opt/ptychopinn /opt/ptychopinn
COPY --from=sources /records/test /opt/ptychopinn
ENV PATH=/opt/ptychopinn/venv/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib XDG_CACHE_HOME=/tmp/cache \
    TORCHINDUCTOR_CACHE_DIR=/tmp/inductor
WORKDIR /opt/ptychopinn/checkout
USER 65532:65532
ENTRYPOINT ["/opt/ptychopinn/src/docker/entrypoint.sh"]
LABEL ptychopinn.target="test"

# The package index's build of torch brings its CUDA libraries; the driver is injected by the container runtime.
FROM ${BUILD_IMAGE:-${BASE_IMAGE}} AS environment-cuda
ARG SOURCE_DATE_EPOCH=1700000000
WORKDIR /opt/ptychopinn/src
COPY tools/install.sh tools/
COPY docker/requirements-cuda.lock docker/
RUN TOOLS= PIP_NO_CACHE_DIR=1 sh tools/install.sh /opt/ptychopinn/venv docker/requirements-cuda.lock \
    && /opt/ptychopinn/venv/bin/python -m pip uninstall --quiet --yes pip \
    && find /opt/ptychopinn/venv -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

FROM run AS cuda
COPY --from=environment-cuda /opt/ptychopinn/venv /opt/ptychopinn/venv
COPY --from=sources /opt/ptychopinn /opt/ptychopinn
COPY --from=sources /records/cuda /opt/ptychopinn
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
ARG REVISION
ARG BUILD_ID
LABEL ptychopinn.target="cuda" ptychopinn.build-id="${BUILD_ID}" org.opencontainers.image.revision="${REVISION}"
