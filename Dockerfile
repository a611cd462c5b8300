# syntax=docker/dockerfile:1
FROM docker.io/library/python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/operator
COPY requirements/run.txt requirements/build.txt requirements/
RUN /opt/operator/bin/pip install --no-cache-dir --require-hashes -r requirements/run.txt \
 && python -m pip install --no-cache-dir --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
 && /opt/operator/bin/pip install --no-cache-dir --no-deps /dist/*.whl \
 && /opt/operator/bin/pip uninstall --yes pip

FROM docker.io/library/python:3.13-slim
LABEL org.opencontainers.image.title="asset-token-operator" \
      org.opencontainers.image.description="Keeps a valid Asset API token in a Secret for every AssetToken" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/operator /opt/operator
# kopf asks for its user's name, and uid 65532 has none.
ENV PATH=/opt/operator/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 USER=operator
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["asset-token-operator"]
CMD ["run"]
