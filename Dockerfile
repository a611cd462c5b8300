# syntax=docker/dockerfile:1
# For every platform that the base and the wheels in requirements/ are there for: nothing here names one.
FROM docker.io/library/python:3.13-slim AS build
WORKDIR /src
# Build tools stay in an environment of their own, which isn't copied; the operator's has no pip.
RUN python -m venv /opt/build && python -m venv --without-pip /opt/operator
COPY requirements/run.txt requirements/build.txt requirements/
RUN /opt/build/bin/pip --python /opt/operator/bin/python install --no-cache-dir --require-hashes -r requirements/run.txt \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
 && /opt/build/bin/pip --python /opt/operator/bin/python install --no-cache-dir --no-deps /dist/*.whl \
 && find /opt/operator -type d -name tests -prune -exec rm -r {} +

FROM docker.io/library/python:3.13-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="asset-token-operator" \
      org.opencontainers.image.description="Keeps a valid Asset API token in a Secret for every AssetToken" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/operator /opt/operator
# kopf asks for its user's name, and uid 65532 has none. Nothing is written: the root file system may be read-only.
ENV PATH=/opt/operator/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 USER=operator
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["asset-token-operator"]
CMD ["run"]
