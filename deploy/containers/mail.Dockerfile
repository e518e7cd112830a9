# A mail server that accepts and drops every email, for machines where Mailpit is not available.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-aiosmtpd \
    && rm -rf /var/lib/apt/lists/*
COPY mailpit /mailpit
ENTRYPOINT ["/mailpit"]
