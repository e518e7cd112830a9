# Debian's Prometheus, with the paths and the defaults of the official image.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus wget \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o nobody -g nogroup /prometheus
VOLUME /prometheus
USER nobody
WORKDIR /prometheus
ENTRYPOINT ["prometheus"]
