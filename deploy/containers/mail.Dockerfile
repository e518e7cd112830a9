# A mail server that takes every mail and drops it, where Mailpit cannot be had.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-aiosmtpd \
    && rm -rf /var/lib/apt/lists/*
COPY mailpit /mailpit
ENTRYPOINT ["/mailpit"]
