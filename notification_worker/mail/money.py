"""Amounts of money in a readable form."""

#: ISO 4217 currencies whose minor unit is not a hundredth: code to number of decimals.
_DECIMALS = {
    **dict.fromkeys(
        ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI"), 0
    ),
    **dict.fromkeys(("VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}


def amount(minor_units: int, currency: str) -> str:
    """Return an amount with its ISO 4217 currency code, such as `EUR 1,234.50` or `JPY 1,234`."""
    decimals = _DECIMALS.get(currency, 2)
    # Only integers are used, because a float cannot represent cents exactly.
    whole, fraction = divmod(abs(minor_units), 10**decimals)
    sign = "-" if minor_units < 0 else ""
    digits = f"{whole:,}.{fraction:0{decimals}}" if decimals else f"{whole:,}"
    return f"{currency} {sign}{digits}"
