# One image for every process of Headrace, and one with the example plants on top.
#   docker build --target headrace .        docker build --target demo .
# Behind a mirror: --build-arg PIP_INDEX_URL=…

FROM python:3.11-slim-bookworm AS build
ARG PIP_INDEX_URL
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/build && python -m venv /opt/headrace
COPY deploy/requirements/ /requirements/
RUN /opt/headrace/bin/pip install -q --require-hashes -r /requirements/runtime.txt \
 && /opt/build/bin/pip install -q --require-hashes -r /requirements/build.txt
WORKDIR /source
# .dockerignore lets in what an image is made of, and nothing else.
COPY . .
RUN /opt/build/bin/pip wheel -q --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/headrace/bin/pip install -q --no-deps --no-index /wheels/*.whl

FROM build AS build-demo
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev python3-dev \
 && rm -rf /var/lib/apt/lists/*
# The simulator comes as source: it is built with tools that were installed by their hashes, like all the rest.
RUN /opt/headrace/bin/pip install -q --require-hashes -r /requirements/build.txt \
 && /opt/headrace/bin/pip install -q --require-hashes --no-build-isolation -r /requirements/demo.txt \
 && /opt/headrace/bin/pip uninstall -q -y uv hatchling editables trove-classifiers

FROM python:3.11-slim-bookworm AS headrace
RUN groupadd --system --gid 10001 headrace \
 && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/headrace --shell /usr/sbin/nologin headrace \
 && install -d -o headrace -g headrace -m 700 /var/lib/headrace
COPY --from=build /opt/headrace /opt/headrace
ENV PATH=/opt/headrace/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HEADRACE_DATA_DIR=/var/lib/headrace \
    HEADRACE_LOG_FORMAT=json
VOLUME /var/lib/headrace
WORKDIR /tmp
USER 10001:10001
CMD ["headrace", "--help"]

FROM headrace AS demo
COPY --from=build-demo /opt/headrace /opt/headrace
COPY --chown=0:0 examples /usr/share/headrace/examples
