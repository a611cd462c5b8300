# syntax=docker/dockerfile:1
# What it weighs is in docs/image.md. Nothing here names an architecture: the locked dependencies are wheels for all.
FROM docker.io/library/python:3.13-slim AS build
WORKDIR /src
# pip stays in a virtual environment of its own, out of the operator's.
RUN python -m venv /pip && python -m venv --without-pip /opt/operator
COPY requirements/run.txt requirements/build.txt requirements/
RUN /pip/bin/pip install --no-cache-dir --no-deps --require-hashes --only-binary=:all: -r requirements/build.txt \
 && /pip/bin/pip --python /opt/operator/bin/python install \
    --no-cache-dir --no-compile --no-deps --require-hashes --only-binary=:all: -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN /pip/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
 && /pip/bin/pip --python /opt/operator/bin/python install --no-cache-dir --no-compile --no-deps /dist/*.whl \
 && find /opt/operator/lib -type d \( -name tests -o -name __pycache__ \) -prune -exec rm -r {} +
# A read-only root file system can't keep compiled code, so what a start imports, the standard library's too, is compiled
# here; a hash of the source and not its time says that it is current. The rest, above all thousands of generated models
# of the Kubernetes client, isn't used and isn't compiled.
ENV PYTHONPYCACHEPREFIX=/opt/operator/pycache
RUN /opt/operator/bin/python -c "import sys, py_compile, asset_token_operator.__main__, asset_token_operator.assembly; \
mode = py_compile.PycInvalidationMode.CHECKED_HASH; \
files = {str(getattr(module, '__file__', None)) for module in sys.modules.values()}; \
[py_compile.compile(file, invalidation_mode=mode, doraise=True) for file in sorted(files) if file.endswith('.py')]"

FROM docker.io/library/python:3.13-slim
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="asset-token-operator" \
      org.opencontainers.image.description="Keeps a valid Asset API token in a Secret for every AssetToken" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13-slim"
# The base's pip: nothing installs anything here.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3.13/site-packages/pip* /usr/local/lib/python3.13/ensurepip
COPY --from=build /opt/operator /opt/operator
# kopf asks for its user's name, and uid 65532 has none.
ENV PATH=/opt/operator/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPYCACHEPREFIX=/opt/operator/pycache \
    PYTHONUNBUFFERED=1 \
    USER=operator
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["asset-token-operator"]
CMD ["run"]
